//! W2: tasks of one get each. W3: tasks that ask again and again. Both on two workers. `load` is keys per load: who waits
//! until batches are full pays for fewer loads, and with a loader that is ready at once nothing else is to be seen of it.

use std::time::Instant;

use super::{on, runtime};
use crate::{
    sample::{Sample, per},
    subject::{Key, Setup, Subject},
};

async fn spawn_all<K: Key, S: Subject<K>>(subject: &S, first: u64, tasks: u64, gets: u64) {
    let task = |task: u64| {
        let subject = subject.clone();
        async move {
            for number in first + task * gets..first + (task + 1) * gets {
                let key = K::number(number);
                let right = key.answer();
                assert!(subject.get(key).await == right);
            }
        }
    };
    let tasks: Vec<_> = (0..tasks).map(|number| tokio::spawn(task(number))).collect();
    for task in tasks {
        task.await.unwrap();
    }
}

fn measured<K: Key, S: Subject<K>>(tasks: u64, gets: u64, max_batch: usize) -> Sample {
    let runtime = runtime(2);
    on(&runtime, async move {
        let setup = Setup { max_batch, fills: tasks == max_batch as u64, ..Setup::default() };
        let subject = S::new(&setup);
        spawn_all::<K, S>(&subject, 0, tasks, gets.div_ceil(4)).await;
        let (before, begun) = (setup.upstream.loads(), Instant::now());
        spawn_all::<K, S>(&subject, tasks * gets, tasks, gets).await;
        let value = per(begun.elapsed(), tasks * gets);
        let loads = setup.upstream.loads() - before;
        Sample { value, loads, load: (tasks * gets) as f64 / loads as f64, ..Sample::default() }
    })
}

pub fn spawned<K: Key, S: Subject<K>>() -> Sample {
    measured::<K, S>(10_000, 1, 100)
}

pub fn looping_64<K: Key, S: Subject<K>>() -> Sample {
    measured::<K, S>(64, 1_000, 64)
}

pub fn looping_1024<K: Key, S: Subject<K>>() -> Sample {
    measured::<K, S>(1_024, 100, 256)
}
