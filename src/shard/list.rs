//! An intrusive list over a table's indexes: the links live in the slots, so a list never allocates.

use super::conn::NONE;

/// One slot's place in a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Links {
    pub previous: u32,
    pub next: u32,
    pub linked: bool,
}

impl Links {
    pub(super) const UNLINKED: Links = Links { previous: NONE, next: NONE, linked: false };
}

/// The ends of a list; `links` finds a slot's links by index.
#[derive(Debug)]
pub(super) struct List {
    first: u32,
    last: u32,
}

impl List {
    pub(super) const fn new() -> Self {
        List { first: NONE, last: NONE }
    }

    pub(super) fn first(&self) -> Option<u32> {
        (self.first != NONE).then_some(self.first)
    }

    /// The one behind a slot, where that is linked.
    pub(super) fn after<T>(
        &self,
        table: &mut T,
        index: u32,
        links: impl Fn(&mut T, u32) -> &mut Links,
    ) -> Option<u32> {
        let own = *links(table, index);
        (own.linked && own.next != NONE).then_some(own.next)
    }

    /// Appends a slot that is in no list.
    pub(super) fn push_back<T>(
        &mut self,
        table: &mut T,
        index: u32,
        links: impl Fn(&mut T, u32) -> &mut Links,
    ) {
        let own = links(table, index);
        assert!(!own.linked, "a slot is in one list at most once");
        *own = Links { previous: self.last, next: NONE, linked: true };
        if self.last == NONE {
            self.first = index;
        } else {
            links(table, self.last).next = index;
        }
        self.last = index;
    }

    /// Removes a slot if it is linked.
    pub(super) fn remove<T>(&mut self, table: &mut T, index: u32, links: impl Fn(&mut T, u32) -> &mut Links) {
        let own = *links(table, index);
        if !own.linked {
            return;
        }
        if own.previous == NONE {
            self.first = own.next;
        } else {
            links(table, own.previous).next = own.next;
        }
        if own.next == NONE {
            self.last = own.previous;
        } else {
            links(table, own.next).previous = own.previous;
        }
        *links(table, index) = Links::UNLINKED;
    }
}
