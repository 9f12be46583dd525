//! Many connections to the bridge that empty one queue.
use super::courier::{Bridge, Courier, Parcel, Receipt};
use std::sync::Arc;
use tokio::{
    sync::{Mutex, mpsc},
    task::JoinSet,
};
use tokio_util::sync::CancellationToken;

/// Couriers at work. What each was given is known by a number of the giver's.
#[derive(Debug)]
pub struct Pool {
    parcels: Option<mpsc::Sender<(u64, Parcel)>>,
    receipts: mpsc::UnboundedReceiver<(u64, Receipt)>,
    tasks: JoinSet<u64>,
}

impl Pool {
    /// So many connections; once `stop` is cancelled, nothing is sent again that was not accepted.
    pub fn new(bridge: &Bridge, connections: u16, stop: &CancellationToken) -> Self {
        let (parcels, queue) = mpsc::channel::<(u64, Parcel)>(usize::from(connections) * 2);
        // Never fuller than the parcels that are under way and not yet looked at: each has one receipt.
        let (told, receipts) = mpsc::unbounded_channel();
        let queue = Arc::new(Mutex::new(queue));
        let mut tasks = JoinSet::new();
        for _ in 0..connections {
            let (queue, told, stop) = (queue.clone(), told.clone(), stop.clone());
            let mut courier = Courier::new(bridge.clone());
            tasks.spawn(async move {
                loop {
                    let Some((number, parcel)) = queue.lock().await.recv().await else {
                        return courier.resent;
                    };
                    let receipt = courier.deliver(&parcel, &stop).await;
                    if told.send((number, receipt)).is_err() {
                        return courier.resent;
                    }
                }
            });
        }
        Self {
            parcels: Some(parcels),
            receipts,
            tasks,
        }
    }

    /// Hands over a parcel; waits while all are busy.
    pub async fn give(&self, number: u64, parcel: Parcel) {
        if let Some(parcels) = &self.parcels {
            // The couriers hold their end until we let go of ours.
            parcels.send((number, parcel)).await.ok();
        }
    }

    /// The receipts that are there.
    pub fn receipts(&mut self) -> impl Iterator<Item = (u64, Receipt)> {
        std::iter::from_fn(|| self.receipts.try_recv().ok())
    }

    /// Waits until all that was given is settled; `note` learns how. Says how often something was sent again.
    pub async fn end(&mut self, mut note: impl FnMut(u64, Receipt)) -> u64 {
        drop(self.parcels.take());
        let mut resent = 0;
        while let Some(done) = self.tasks.join_next().await {
            resent += done.unwrap_or_default();
        }
        for (number, receipt) in self.receipts() {
            note(number, receipt);
        }
        resent
    }
}
