//! Whose fault it is: one key's, the whole load's, or nobody's.
#![allow(clippy::print_stdout, reason = "an example shows what it did")]

use std::error::Error as _;

use multiget::{Answers, Batcher, Error};

/// What can go wrong in the shop. Two of these are for ever, one is for now.
#[derive(Debug, PartialEq, thiserror::Error)]
enum ShopError {
    #[error("the price is not a number")]
    BrokenPrice,
    #[error("the shop is stocktaking, come back later")]
    Stocktaking,
    #[error("the shop burnt down")]
    BurntDown,
}

/// Article 2 has a broken price, there is no article 3, and articles from 100 on bring the shop down in one way or
/// another.
async fn load(articles: Vec<u32>) -> Result<Answers<u32, u32, ShopError>, ShopError> {
    match articles.iter().max() {
        Some(100..200) => Err(ShopError::Stocktaking), // an `Err` is the answer to every article of this load
        Some(200..) => Err(ShopError::BurntDown),
        _ => Ok(articles
            .into_iter()
            .filter(|&article| article != 3) // an article that is not mentioned is absent
            .map(|article| (article, if article == 2 { Err(ShopError::BrokenPrice) } else { Ok(article * 10) }))
            .collect()),
    }
}

/// The library knows of its own errors which of them may pass; of your errors only you can know. A batcher that is to
/// ask again by itself is told so with `retry_if`, or by its loader's verdicts; see the example `poison`.
fn worth_asking_again(error: &Error<ShopError>) -> bool {
    match error {
        Error::Load(error) | Error::Key(error) => **error == ShopError::Stocktaking,
        error => error.is_retryable(), // such as `TimedOut` and `Overloaded`
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let prices = Batcher::builder().load_fn(load)?;

    // One load, four articles, four results of their own: a broken one hurts nobody else.
    let each = prices.get_each([1, 2, 3, 4]).await;
    assert!(matches!(&each[..], [Ok(10), Err(Error::Key(_)), Err(Error::NotFound), Ok(40)]));
    assert_eq!(prices.stats().loads, 1);

    // Absence is an error for `get`, because a value was wanted, and an answer for `find`.
    assert!(prices.get(3).await.is_err_and(|error| error.is_not_found()));
    assert_eq!(prices.find(3).await?, None);

    // An error for the whole load is shared by all who waited for it, article 1 included.
    let (one, other) = tokio::join!(prices.get(1), prices.get(100));
    for error in [one, other].map(|shared| shared.expect_err("the load failed")) {
        // The source is the loader's own error, not a copy and not its text.
        let source = error.source().and_then(|source| source.downcast_ref::<ShopError>());
        println!("{error}: {}", source.expect("the loader's error"));
        assert_eq!(source, Some(&ShopError::Stocktaking));
        assert!(!error.is_retryable() && worth_asking_again(&error));
    }

    // It leaves no trace: the next get loads anew.
    assert_eq!(prices.get(1).await?, 10);

    assert!(prices.get(200).await.is_err_and(|error| !worth_asking_again(&error)));
    assert!(prices.get(3).await.is_err_and(|error| !worth_asking_again(&error)));
    assert!(worth_asking_again(&Error::TimedOut));
    Ok(())
}
