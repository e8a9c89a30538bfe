//! What a session shares with its parents: the part of its figures that is history, and what is
//! kept when its files are read again because an older session had that part first.

use super::charge::UsageByModel;
use super::figures::Figures;

impl Figures {
    /// New figures for reading the files again from their beginning, because an older session had
    /// first what this one has counted. What was shown as used remains the minimum.
    #[must_use]
    pub fn restarted(&self) -> Self {
        let mut floor = self.floor.clone();
        for (model, usage) in &self.usage_by_model {
            let inherited = self.inherited_by_model.get(model).copied();
            let floor = floor.entry(model.clone()).or_default();
            *floor = floor.max(usage.plus(inherited.unwrap_or_default()));
        }
        Self {
            floor,
            ..Self::default()
        }
    }

    /// Token counts by model, as counted from the messages.
    #[must_use]
    pub fn counted(&self) -> UsageByModel {
        let mut counted = self.usage_by_model.clone();
        for (model, &floor) in &self.floor {
            let inherited = self.inherited_by_model.get(model).copied();
            let usage = counted.entry(model.clone()).or_default();
            *usage = usage.max(floor.minus(inherited.unwrap_or_default()));
        }
        counted
    }

    /// Finds what the client had charged for the parent of this fork when it made the fork. Of the
    /// sessions that had the copied messages first, the parent is the one that had copied most of
    /// them itself.
    pub fn find_base<'a>(&mut self, owners: impl Iterator<Item = &'a Self>) {
        let copied = |owner: &&Self| owner.inherited.unwrap_or_default().tokens();
        if let Some(parent) = owners.max_by_key(copied) {
            let inherited = self.inherited.unwrap_or_default();
            let of_parent = inherited.minus(parent.inherited.unwrap_or_default());
            self.charges.find_base(&parent.charges, of_parent);
        }
    }

    /// Whether the inherited part has no mark of its origin, so that the client charges it again.
    #[must_use]
    pub fn is_unmarked_fork(&self) -> bool {
        self.forked_from.is_none() && !self.parents.is_empty()
    }
}
