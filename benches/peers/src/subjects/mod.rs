//! The rows: one file each. What differs between them is theirs, what they are asked is in `work`.

mod async_graphql;
mod batch_aint_one;
mod batchy;
mod dataloader;
mod hand;
mod limit;
mod multiget;
mod scuffle;
mod tower;
mod ultra_batch;

pub use self::{
    async_graphql::{AsyncGraphql, Cached as AsyncGraphqlCached},
    batch_aint_one::{BatchAintOne, Immediate as BatchAintOneImmediate},
    batchy::Batchy,
    dataloader::{Cached as DataloaderCached, Dataloader},
    hand::Hand,
    limit::Limit,
    multiget::{InOrder, Multiget, Stored},
    scuffle::{ScuffleBatcher, ScuffleLoader},
    tower::{TowerBatch, TowerBatchControl},
    ultra_batch::UltraBatch,
};
