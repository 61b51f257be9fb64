//! How many connections one client has.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::pull::one_client;

/// The connections of each client; no client has more than the limit.
pub(super) struct Crowd {
    limit: usize,
    here: Mutex<HashMap<IpAddr, Party>>,
}

/// One client's connections.
#[derive(Default)]
struct Party {
    size: usize,
    /// It was told that this client is refused, since it last had none.
    told: bool,
}

/// One connection's place; it is free again when this is dropped.
pub(super) struct Place(Option<(Arc<Crowd>, IpAddr)>);

/// A client has all the connections that it may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Full {
    /// Whether it is so for the first time since the client came.
    pub(super) is_news: bool,
}

impl Crowd {
    /// With `limit` 0 nobody is counted.
    pub(super) fn new(limit: usize) -> Arc<Self> {
        Arc::new(Self { limit, here: Mutex::default() })
    }

    /// A place for one more connection of this client.
    pub(super) fn admit(self: &Arc<Self>, client: IpAddr) -> Result<Place, Full> {
        if self.limit == 0 {
            return Ok(Place(None));
        }
        let client = one_client(client);
        let mut here = self.here();
        let party = here.entry(client).or_default();
        if party.size >= self.limit {
            let is_news = !std::mem::replace(&mut party.told, true);
            return Err(Full { is_news });
        }
        party.size += 1;
        Ok(Place(Some((Arc::clone(self), client))))
    }

    fn here(&self) -> MutexGuard<'_, HashMap<IpAddr, Party>> {
        // Nothing panics between two halves of a change.
        self.here.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let Some((crowd, client)) = &self.0 else { return };
        let mut here = crowd.here();
        if let Some(party) = here.get_mut(client) {
            party.size -= 1;
            if party.size == 0 {
                here.remove(client);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn a_client_has_no_more_than_its_places_and_another_client_has_its_own() {
        let crowd = Crowd::new(2);
        let first = crowd.admit(address("10.0.0.1")).ok().unwrap();
        let _second = crowd.admit(address("::ffff:10.0.0.1")).ok().unwrap();
        let full = |is_news| Some(Full { is_news });
        assert_eq!(crowd.admit(address("10.0.0.1")).err(), full(true));
        assert_eq!(crowd.admit(address("10.0.0.1")).err(), full(false));
        let other = crowd.admit(address("10.0.0.2")).ok().unwrap();
        drop(first);
        assert!(crowd.admit(address("10.0.0.1")).is_ok());
        drop(other);
        assert_eq!(crowd.here().len(), 1);
    }

    #[test]
    fn a_network_of_ipv6_is_one_client() {
        let crowd = Crowd::new(1);
        let _place = crowd.admit(address("fd00:0:0:1::1")).ok().unwrap();
        assert!(crowd.admit(address("fd00:0:0:1:ffff::2")).is_err());
        assert!(crowd.admit(address("fd00:0:0:2::1")).is_ok());
    }

    #[test]
    fn without_a_limit_nobody_is_counted() {
        let crowd = Crowd::new(0);
        let places: Vec<_> = (0..1000).map(|_| crowd.admit(address("10.0.0.1"))).collect();
        assert!(places.iter().all(Result::is_ok) && crowd.here().is_empty());
    }
}
