//! Ten gets, one load.
#![allow(clippy::print_stdout, reason = "an example shows what it did")]

use multiget::Batcher;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let squares: Batcher<u64, u64> =
        Batcher::builder().load_fn(async |ids| Ok(ids.into_iter().map(|id| (id, id * id)).collect()))?;
    let gets = (1..=10).map(|id| squares.get(id)); // a function of one id, asked ten times
    let answers = futures::future::try_join_all(gets).await?;
    println!("{answers:?}: {} gets, {} load", squares.stats().gets, squares.stats().loads);
    Ok(())
}
