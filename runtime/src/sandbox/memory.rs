//! The memory limit: all linear memories and tables of a store together.

use std::sync::Arc;

use wasmtime::ResourceLimiter;

use super::Meter;

/// A table element is a pointer.
const ELEMENT_BYTES: usize = size_of::<usize>();

/// Instances, memories and tables in one store; the pool's own caps per component are tighter.
const ITEMS: usize = 64;

/// Grants memory until the limit, then refuses as a real machine would: `memory.grow` returns -1.
pub struct MemoryLimit {
    left: usize,
    /// What was left when the instance was new.
    first: usize,
    meter: Arc<Meter>,
}

impl MemoryLimit {
    pub fn new(bytes: u64, meter: Arc<Meter>) -> Self {
        let left = usize::try_from(bytes).unwrap_or(usize::MAX);
        Self { left, first: left, meter }
    }

    /// The instance is complete, and can be set back to now.
    pub fn settle(&mut self) {
        self.first = self.left;
    }

    /// The instance is as it was when it was complete.
    pub fn rewind(&mut self) {
        self.left = self.first;
    }

    /// Another call uses the memory now.
    pub fn renew(&mut self, meter: Arc<Meter>) {
        self.meter = meter;
    }

    fn grant(&mut self, current: usize, desired: usize, size: usize) -> bool {
        let bytes = desired.saturating_sub(current).saturating_mul(size);
        match self.left.checked_sub(bytes) {
            Some(left) => {
                self.left = left;
                true
            }
            None => {
                self.meter.deny_memory();
                false
            }
        }
    }
}

impl ResourceLimiter for MemoryLimit {
    fn memory_growing(
        &mut self,
        current: usize,
        desired: usize,
        maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        // Growing past a memory's own maximum fails anyway and must not be charged.
        Ok(maximum.is_none_or(|maximum| desired <= maximum) && self.grant(current, desired, 1))
    }

    fn table_growing(
        &mut self,
        current: usize,
        desired: usize,
        maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        Ok(maximum.is_none_or(|maximum| desired <= maximum) && self.grant(current, desired, ELEMENT_BYTES))
    }

    fn instances(&self) -> usize {
        ITEMS
    }

    fn tables(&self) -> usize {
        ITEMS
    }

    fn memories(&self) -> usize {
        ITEMS
    }
}

#[cfg(test)]
mod tests {
    use af_contract::Limits;

    use super::*;

    #[test]
    fn memories_and_tables_share_one_budget() {
        let meter = Arc::new(Meter::new(&Limits::default()));
        let mut limit = MemoryLimit::new(100 + 10 * ELEMENT_BYTES as u64, meter.clone());
        assert!(limit.memory_growing(0, 100, None).unwrap());
        assert!(limit.table_growing(0, 10, None).unwrap());
        assert_eq!(meter.blame(), None);
        assert!(!limit.memory_growing(100, 101, None).unwrap());
        assert_eq!(meter.blame(), Some(super::super::Exceeded::Memory));
    }

    #[test]
    fn growth_past_a_memorys_own_maximum_is_not_charged() {
        let meter = Arc::new(Meter::new(&Limits::default()));
        let mut limit = MemoryLimit::new(100, meter);
        assert!(!limit.memory_growing(0, 90, Some(50)).unwrap());
        assert!(limit.memory_growing(0, 100, Some(100)).unwrap());
    }
}
