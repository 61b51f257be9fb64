//! A gate that holds requests until the test opens it: ordering without sleeps.

use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use super::wait::eventually;

/// How long a request waits at a closed gate before it gives up (a test that forgot to open).
const FORGOTTEN: Duration = Duration::from_secs(90);

/// A gate; clones are the same gate. A closed one that is dropped everywhere holds nobody.
#[derive(Clone)]
pub(crate) struct Gate(Arc<(Mutex<State>, Condvar)>);

struct State {
    open: bool,
    arrived: usize,
}

impl Gate {
    /// A gate that holds everybody.
    pub(crate) fn closed() -> Self {
        Self(Arc::new((Mutex::new(State { open: false, arrived: 0 }), Condvar::new())))
    }

    /// Lets everybody through, from now on.
    pub(crate) fn open(&self) {
        self.0.0.lock().expect("no holder panics").open = true;
        self.0.1.notify_all();
    }

    /// How many have come to the gate so far.
    pub(crate) fn arrived(&self) -> usize {
        self.0.0.lock().expect("no holder panics").arrived
    }

    /// Waits until `count` have come to the gate.
    #[track_caller]
    pub(crate) fn wait_for(&self, count: usize) {
        eventually(&format!("{count} requests at the gate"), || self.arrived() >= count);
    }

    /// Waits here until the gate is open.
    pub(crate) fn pass(&self) {
        let mut state = self.0.0.lock().expect("no holder panics");
        state.arrived += 1;
        let closed = |state: &mut State| !state.open;
        drop(self.0.1.wait_timeout_while(state, FORGOTTEN, closed).expect("no holder panics"));
    }
}
