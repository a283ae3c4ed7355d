//! What waits of one hook, and why it may not go on.

use std::collections::VecDeque;

use pulse::Delivery;

#[derive(Default)]
pub(super) struct Waiting {
    pub deliveries: VecDeque<Delivery>,
    /// Of their bodies, always.
    pub bytes: usize,
    /// Under way.
    pub batches: usize,
    pub in_ring: bool,
    /// The rate limit or its pace holds it up; somebody will say when that is over.
    pub held: bool,
    /// What was here has been handed over, and what batches leave is to go back, too.
    pub given_up: bool,
}

impl Waiting {
    pub fn push(&mut self, delivery: Delivery) {
        self.bytes += delivery.message.body.len();
        self.deliveries.push_back(delivery);
    }

    pub fn put_back(&mut self, deliveries: Vec<Delivery>) {
        for delivery in deliveries.into_iter().rev() {
            self.bytes += delivery.message.body.len();
            self.deliveries.push_front(delivery);
        }
    }

    pub fn take(&mut self, count: usize) -> Vec<Delivery> {
        let taken: Vec<Delivery> = self.deliveries.drain(..count).collect();
        self.bytes -= taken.iter().map(|delivery| delivery.message.body.len()).sum::<usize>();
        taken
    }

    pub fn give_up(&mut self) -> Vec<Delivery> {
        self.take(self.deliveries.len())
    }
}
