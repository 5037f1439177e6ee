//! The client's unnamed portal, where it is not what the origin has under that name: it was bound and run to its end
//! here, or ended here. Only a transaction lets a portal live longer than its batch.

use std::mem;
use std::rc::Rc;

use bytes::{BufMut, Bytes};
use larder_sql::Kind;
use larder_wire::{HEADER, encode, frontend};

use super::Session;
use super::expect::{Closing, Expect};
use super::statements::Prepared;
use crate::plan::Plan;

/// The statement by which a portal is run again: neither the unnamed one nor the client's own are touched.
const NAME: &str = "larder_portal";

/// The client's unnamed portal.
#[derive(Debug, Default)]
pub(super) enum Unnamed {
    /// What the origin has, if it has one.
    #[default]
    Same,
    /// There is none any more, and the origin may have an older one.
    Ended,
    /// Made here by this `Bind`, and run to its end here.
    Run { prepared: Rc<Prepared>, bind: Bytes },
}

impl Unnamed {
    /// After a `Bind` that was answered here, and the `Execute` behind it.
    pub(super) fn run(plan: &Plan, prepared: &Rc<Prepared>, bind: &[u8]) -> Self {
        match plan.kind {
            Kind::Select | Kind::Begin(_) => {
                Self::Run { prepared: Rc::clone(prepared), bind: Bytes::copy_from_slice(bind) }
            }
            // The others end the transaction, or are nothing that the origin could run.
            _ => Self::Ended,
        }
    }
}

/// A portal at the origin.
#[derive(Debug, Clone)]
pub(crate) struct Bound {
    pub(crate) prepared: Rc<Prepared>,
    /// Its Bind message after the names, if it says which rows are written.
    pub(crate) values: Option<Bytes>,
}

impl Session {
    /// In a transaction, as far as the client can tell.
    pub(super) fn in_transaction(&self) -> bool {
        self.deferred.is_some() || self.transaction.status == b'T'
    }

    /// The client's unnamed portal is this one from here on. Without a transaction it is gone already, and where the
    /// origin knows of none, there is no older one.
    pub(super) fn set_portal(&mut self, portal: Unnamed) {
        let may_have_older = self.transaction.status == b'T' || !matches!(portal, Unnamed::Ended);
        self.unnamed = if self.in_transaction() && may_have_older { portal } else { Unnamed::Same };
    }

    /// Something uses the portal of that name: the origin's must be the client's.
    pub(super) fn settle_portal(&mut self, name: &[u8]) {
        if !name.is_empty() {
            return;
        }
        match self.replace_portal(name) {
            Unnamed::Same => {}
            Unnamed::Run { prepared, bind } if self.run_again(&prepared, &bind).is_some() => {
                self.portals.insert(Bytes::new(), Bound { prepared: Rc::clone(&prepared), values: None });
                self.outstanding.push(Expect::Rerun(Unnamed::Run { prepared, bind }));
            }
            ended => {
                encode::close(&mut self.origin.output, b'P', b"");
                self.outstanding.push(Expect::Close(Closing::Own(ended)));
                self.portals.remove(name);
            }
        }
    }

    /// The portal of that name becomes what the origin has, unless that is skipped: then it is again what is returned.
    pub(super) fn replace_portal(&mut self, name: &[u8]) -> Unnamed {
        if !name.is_empty() {
            return Unnamed::Same;
        }
        self.pause.fate |= !matches!(self.unnamed, Unnamed::Same);
        mem::take(&mut self.unnamed)
    }

    /// Makes the portal at the origin and runs it to its end there: it is a read, or a BEGIN, which does nothing now.
    fn run_again(&mut self, prepared: &Prepared, bind: &[u8]) -> Option<()> {
        let (sql, types) = prepared.text()?;
        let values = frontend::bind(bind.get(HEADER..)?)?.rest;
        let out = &mut self.origin.output;
        // An earlier one may have failed half way.
        encode::close(out, b'S', NAME.as_bytes());
        encode::frame(out, b'P', |out| {
            out.put_slice(NAME.as_bytes());
            out.put_slice(b"\0");
            out.put_slice(sql);
            out.put_slice(b"\0");
            out.put_slice(types);
        });
        encode::frame(out, b'B', |out| {
            out.put_slice(b"\0");
            out.put_slice(NAME.as_bytes());
            out.put_slice(b"\0");
            out.put_slice(values);
        });
        encode::execute(out, "");
        encode::close(out, b'S', NAME.as_bytes());
        self.outstanding.push(Expect::Close(Closing::Own(Unnamed::Same)));
        Some(())
    }
}
