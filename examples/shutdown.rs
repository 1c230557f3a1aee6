//! Ending well: whoever waits is answered, whoever comes later is told.
#![allow(clippy::print_stdout, reason = "an example shows what it did")]

use std::time::Duration;

use multiget::{Batcher, ConfigError, Error};
use tokio::{
    signal::ctrl_c,
    task::yield_now,
    time::{sleep, timeout},
};

/// Its batches would leave in an hour, if nothing ended before.
fn patient() -> Result<Batcher<u32, u32>, ConfigError> {
    let settings = Batcher::builder().window(Duration::from_secs(3_600));
    settings.load_fn(async |ids| Ok(ids.into_iter().map(|id| (id, id * 2)).collect()))
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    // A server that works until somebody presses Ctrl-C, or until the day is over; here it is a short one.
    let doubles = patient()?;
    let requests = [1, 2, 2].map(|id| tokio::spawn(doubles.get(id)));
    while doubles.stats().waiting < requests.len() {
        yield_now().await;
    }
    tokio::select! {
        pressed = ctrl_c() => pressed?,
        () = sleep(Duration::from_millis(10)) => {}
    }

    // `close` refuses what comes from now on, sends what is queued without waiting for its window, and waits for the
    // answers: as long as the slowest load, which `load_timeout` ends after 30 s. A server that must be gone sooner
    // waits for less. Ctrl-C does not help any more: since `ctrl_c` was called, it no longer kills.
    timeout(Duration::from_secs(5), doubles.close()).await?;
    for (request, double) in requests.into_iter().zip([2, 4, 4]) {
        assert_eq!(request.await??, double);
    }
    println!("closed: {} gets answered by {} load", doubles.stats().gets, doubles.stats().loads);
    assert_eq!((doubles.stats().loads, doubles.stats().waiting), (1, 0));

    // It is closed for all handles and for good. Closing twice is fine.
    assert!(matches!(doubles.clone().get(3).await, Err(Error::Closed)));
    doubles.close().await;

    // Nobody has to close: when the last handle is dropped, what is queued leaves at once. Gets are no handles, but
    // one that was made before is still answered, even if it is polled only now.
    let doubles = patient()?;
    let late = doubles.get(6);
    let request = tokio::spawn(doubles.get(5));
    while doubles.stats().waiting < 1 {
        yield_now().await;
    }
    drop(doubles);
    assert_eq!(request.await??, 10);
    assert_eq!(late.await?, 12);
    println!("last handle dropped: everybody answered");
    Ok(())
}
