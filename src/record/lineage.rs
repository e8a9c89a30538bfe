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

    /// Finds what the client had charged for the parent of this fork when it made the fork.
    pub fn find_base(&mut self, parent: &Self) {
        let inherited = self.inherited.unwrap_or_default();
        self.charges.find_base(&parent.charges, inherited);
    }

    /// Whether the inherited part has no mark of its origin, so that the client charges it again.
    #[must_use]
    pub fn is_unmarked_fork(&self) -> bool {
        self.forked_from.is_none() && !self.inherited_by_model.is_empty()
    }
}
