//! Records on their way to the tier and back.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::adopt::Refusal;
use super::record::Record;
use super::statement::Statement;
use crate::tier::{Sealer, Tier, TierKey};

/// A connection to the tier and how values look in it. One for each thread.
pub struct Exchange {
    tier: Box<dyn Tier>,
    sealer: Arc<Sealer>,
}

impl Exchange {
    /// Of this tier, with values sealed like this.
    pub fn new(tier: Box<dyn Tier>, sealer: Arc<Sealer>) -> Self {
        Self { tier, sealer }
    }

    /// Whether asking has a chance.
    pub fn available(&self) -> bool {
        self.tier.available()
    }

    /// Whether a record of about so many bytes would be taken.
    pub fn accepts(&self, bytes: usize) -> bool {
        self.tier.accepts(bytes)
    }

    /// The record under a full key in this life of the log, if there is one. `large`: see [`Tier::get`].
    ///
    /// # Errors
    /// [`Refusal::Unreadable`].
    pub async fn fetch(&self, life: &[u8], key: &[u8], large: bool) -> Option<Result<Record, Refusal>> {
        let sealed = self.tier.get(&self.record_key(life, key), large).await?;
        let opened = self.sealer.open(&[RECORD, life, key], sealed);
        Some(opened.and_then(Record::decode).ok_or(Refusal::Unreadable))
    }

    /// Hands a record over, to be kept for `ttl`.
    pub fn give(&self, record: &Record, ttl: Duration) {
        if let Some(sealed) = self.sealer.seal(&[RECORD, &record.life, &record.key], &record.encode()) {
            self.tier.put(&self.record_key(&record.life, &record.key), sealed, ttl);
        }
    }

    /// What was said last of the past of this life, under this meaning.
    pub(super) async fn statement(&self, life: &[u8], meaning: &[u8; 32]) -> Option<Statement> {
        let sealed = self.tier.get(&self.statement_key(life, meaning), true).await?;
        Statement::decode(self.sealer.open(&[STATEMENT, life, meaning], sealed)?)
    }

    /// Says it.
    pub(super) fn say(&self, statement: &Statement, ttl: Duration) {
        let associated: [&[u8]; 3] = [STATEMENT, &statement.life, &statement.meaning];
        if let Some(sealed) = self.sealer.seal(&associated, &statement.encode()) {
            self.tier.put(&self.statement_key(&statement.life, &statement.meaning), sealed, ttl);
        }
    }

    fn record_key(&self, life: &[u8], key: &[u8]) -> TierKey {
        self.sealer.key(&[RECORD, life, key])
    }

    fn statement_key(&self, life: &[u8], meaning: &[u8; 32]) -> TierKey {
        self.sealer.key(&[STATEMENT, life, meaning])
    }
}

/// So that a record can never pass for a statement, or the other way round.
const RECORD: &[u8] = b"record";
const STATEMENT: &[u8] = b"statement";

impl fmt::Debug for Exchange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Exchange").field("tier", &self.tier).finish_non_exhaustive()
    }
}
