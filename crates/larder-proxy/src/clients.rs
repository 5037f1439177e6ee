//! Who is connected and what they do, for whoever looks from outside.
//!
//! Each worker has a list. A session writes its own card with relaxed stores and no lock; the list is locked when a
//! session begins or ends, and when somebody looks. A name that changes takes the lock of its card.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::time::Duration;

use larder_cache::Moment;
use parking_lot::Mutex;

use crate::metrics::add;

/// What a client does at the moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClientState {
    /// Nothing, outside a transaction.
    Idle,
    /// Nothing, inside a transaction.
    IdleInTransaction,
    /// It waits for the origin.
    Active,
    /// It waits here: for another session's identical query, the shared tier, or the read barrier.
    Waiting,
}

impl ClientState {
    const ALL: [Self; 4] = [Self::Idle, Self::IdleInTransaction, Self::Active, Self::Waiting];

    /// As `pg_stat_activity` would say it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::IdleInTransaction => "idle in transaction",
            Self::Active => "active",
            Self::Waiting => "waiting",
        }
    }
}

/// One connected client.
#[derive(Debug, Clone)]
pub struct ClientSnapshot {
    /// Which worker serves it.
    pub worker: usize,
    /// Process number of its backend on the origin, if it told one.
    pub pid: Option<u32>,
    /// Who it is.
    pub identity: Arc<ClientIdentity>,
    /// How long ago its session began.
    pub connected: Duration,
    /// What it does.
    pub state: ClientState,
    /// Since when.
    pub state_for: Duration,
    /// Statements answered.
    pub statements: u64,
    /// Of them: from memory.
    pub hits: u64,
}

/// Who a client says that it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientIdentity {
    /// Its address; behind a load balancer that says so, its true one.
    pub address: SocketAddr,
    /// Whether its connection is encrypted.
    pub tls: bool,
    /// The user that it logged in as.
    pub user: String,
    /// Its database.
    pub database: String,
    /// The name that it has given itself, as the origin has it.
    pub application_name: String,
}

/// The clients of one worker.
#[derive(Debug, Default)]
pub(crate) struct Clients(Mutex<Listed>);

#[derive(Debug, Default)]
struct Listed {
    next: u64,
    cards: HashMap<u64, Arc<Card>>,
}

#[derive(Debug)]
struct Card {
    pid: Option<u32>,
    identity: Mutex<Arc<ClientIdentity>>,
    connected: Moment,
    /// Position in [`ClientState::ALL`].
    state: AtomicU8,
    /// [`Moment`] of its last change.
    since: AtomicU64,
    statements: AtomicU64,
    hits: AtomicU64,
}

/// A session's place in the list, given up when dropped.
#[derive(Debug)]
pub(crate) struct ClientSeat {
    clients: Arc<Clients>,
    id: u64,
    card: Arc<Card>,
}

impl Clients {
    /// A session begins.
    pub(crate) fn enter(self: &Arc<Self>, identity: ClientIdentity, pid: Option<u32>) -> ClientSeat {
        let now = Moment::now();
        let card = Arc::new(Card {
            pid,
            identity: Mutex::new(Arc::new(identity)),
            connected: now,
            state: AtomicU8::new(0),
            since: AtomicU64::new(now.0),
            statements: AtomicU64::new(0),
            hits: AtomicU64::new(0),
        });
        let mut listed = self.0.lock();
        listed.next += 1;
        let id = listed.next;
        listed.cards.insert(id, Arc::clone(&card));
        drop(listed);
        ClientSeat { clients: Arc::clone(self), id, card }
    }

    /// How many are in each of [`ClientState::ALL`].
    pub(crate) fn count(&self) -> [u64; ClientState::ALL.len()] {
        let mut counts = [0; ClientState::ALL.len()];
        for card in self.0.lock().cards.values() {
            if let Some(count) = counts.get_mut(usize::from(card.state.load(Ordering::Relaxed))) {
                *count += 1;
            }
        }
        counts
    }

    /// Everybody, those who came first first.
    pub(crate) fn list(&self, worker: usize) -> Vec<ClientSnapshot> {
        let now = Moment::now();
        let mut cards: Vec<_> =
            self.0.lock().cards.iter().map(|(id, card)| (*id, Arc::clone(card))).collect();
        cards.sort_unstable_by_key(|(id, _)| *id);
        cards.into_iter().map(|(_, card)| card.snapshot(worker, now)).collect()
    }
}

impl Card {
    fn snapshot(&self, worker: usize, now: Moment) -> ClientSnapshot {
        let state = usize::from(self.state.load(Ordering::Relaxed));
        ClientSnapshot {
            worker,
            pid: self.pid,
            identity: Arc::clone(&self.identity.lock()),
            connected: now.since(self.connected),
            state: ClientState::ALL.get(state).copied().unwrap_or(ClientState::Idle),
            state_for: now.since(Moment(self.since.load(Ordering::Relaxed))),
            statements: self.statements.load(Ordering::Relaxed),
            hits: self.hits.load(Ordering::Relaxed),
        }
    }
}

impl ClientSeat {
    /// What it does from now on. The clock is read only when that is something else than before.
    pub(crate) fn set(&self, state: ClientState) {
        let state = state as u8;
        if self.card.state.load(Ordering::Relaxed) != state {
            self.card.state.store(state, Ordering::Relaxed);
            self.card.since.store(Moment::now().0, Ordering::Relaxed);
        }
    }

    /// The origin has told the name that its application goes by from now on.
    pub(crate) fn rename(&self, name: &[u8]) {
        let mut identity = self.card.identity.lock();
        if identity.application_name.as_bytes() != name {
            Arc::make_mut(&mut identity).application_name = String::from_utf8_lossy(name).into_owned();
        }
    }

    /// A statement has been answered.
    pub(crate) fn answered(&self, hit: bool) {
        add(&self.card.statements, 1);
        add(&self.card.hits, u64::from(hit));
    }
}

impl Drop for ClientSeat {
    fn drop(&mut self) {
        self.clients.0.lock().cards.remove(&self.id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity(application_name: &str) -> ClientIdentity {
        ClientIdentity {
            address: ([127, 0, 0, 1], 1).into(),
            tls: false,
            user: "ann".to_owned(),
            database: "app".to_owned(),
            application_name: application_name.to_owned(),
        }
    }

    #[test]
    fn those_who_left_are_not_listed() {
        let clients = Arc::new(Clients::default());
        let (first, second) = (clients.enter(identity("a"), Some(7)), clients.enter(identity("b"), None));
        first.answered(true);
        first.answered(false);
        first.set(ClientState::Active);
        let [a, b] = &clients.list(3)[..] else { panic!("two") };
        assert_eq!((a.pid, a.statements, a.hits, a.state, a.worker), (Some(7), 2, 1, ClientState::Active, 3));
        assert_eq!((b.identity.application_name.as_str(), b.state.name()), ("b", "idle"));
        assert_eq!(clients.count(), [1, 0, 1, 0]);
        second.rename(b"b, later");
        assert_eq!(clients.list(0)[1].identity.application_name, "b, later");
        assert_eq!(b.identity.application_name, "b", "what was looked at before stays as it was");
        drop(second);
        assert_eq!(clients.list(0).len(), 1);
    }
}
