//! What is kept of an origin's reply.

use std::cell::RefCell;

use bytes::Bytes;
use larder_cache::Weigh;

/// An answer, ready to be copied to a client.
#[derive(Debug, Clone)]
pub(crate) struct Answer {
    /// Simple protocol: RowDescription, DataRows, CommandComplete. Extended: DataRows, CommandComplete.
    pub(crate) frames: Bytes,
    /// Extended protocol: what the rows' columns are (`RowDescription` with all formats zero), if that is known. The
    /// answer is for clients that expect these columns: DDL that has not been noticed yet may have changed them.
    pub(crate) columns: Option<Bytes>,
}

impl Weigh for Answer {
    fn weight(&self) -> usize {
        self.frames.len() + self.columns.as_ref().map_or(0, Bytes::len)
    }
}

/// What the origin said about a statement when it was prepared or described. Belongs to one plan, so to one epoch.
#[derive(Debug, Default)]
pub(crate) struct Shape {
    /// The origin accepted `Parse`.
    pub(crate) parsed: bool,
    /// `ParameterDescription` frame.
    pub(crate) parameters: Option<Bytes>,
    /// `RowDescription` frame with all formats zero.
    pub(crate) columns: Option<Bytes>,
    /// The last portal description made from `columns`: result formats and frame. Clients rarely vary them.
    portal: RefCell<Option<(Box<[u8]>, Bytes)>>,
}

impl Shape {
    /// The description of a portal with these result formats (count and codes, as in `Bind`).
    pub(crate) fn portal(&self, formats: &[u8]) -> Option<Bytes> {
        if let Some((known, frame)) = &*self.portal.borrow()
            && **known == *formats
        {
            return Some(frame.clone());
        }
        let frame = larder_wire::backend::with_formats(self.columns.as_ref()?, formats)?;
        *self.portal.borrow_mut() = Some((formats.into(), frame.clone()));
        Some(frame)
    }

    /// Keeps the columns that the origin told last, and returns them: equal ones are the same bytes in memory.
    pub(crate) fn learn_columns(&mut self, columns: Option<Bytes>) -> Option<Bytes> {
        if self.columns != columns {
            self.columns = columns;
            self.portal.take();
        }
        self.columns.clone()
    }
}
