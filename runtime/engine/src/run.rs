//! Engines that run what was compiled.

use wasmtime::{Enabled, Engine, Error, InstanceAllocationStrategy, PoolingAllocationConfig};
use wisp_contract::facts::{Facts, Kind};

use crate::Profile;

/// The stack of one Wasm computation, in bytes. Deeper recursion is a trap.
const WASM_STACK: usize = 1 << 20;
/// The native stack on which a Wasm computation and the host functions that it calls run, in bytes.
const NATIVE_STACK: usize = 2 << 20;
/// Address space that a pool may take, in bytes: a sixteenth of what a 47-bit process has.
const POOL_ADDRESS_SPACE: u64 = 8 << 40;
/// Address space of one memory in a pool: what 32 bits address, and guards.
const SLOT: u64 = (4 << 30) + (64 << 20);

/// What a slot that is not in use keeps of the pages that its last instance wrote to a memory or table, in bytes; the rest goes
/// back to the kernel. To make a page as it was is cheaper than to fault in another.
const KEPT_OF_MEMORY: usize = 256 << 10;
const KEPT_OF_TABLE: usize = 16 << 10;

/// How an engine is to hand out memories, tables and stacks.
#[derive(Debug, Clone, Copy)]
pub enum Demands<'a> {
    /// A few instances, each made when it is needed.
    Few,
    /// Many short-lived instances of the program with these facts, so many at a time, from a pool.
    Pool(&'a Facts, u32),
}

/// An engine that runs code compiled under `profile`.
///
/// # Errors
/// Wasmtime's, for instance where the address space is too small for a pool: ask again with [`Demands::Few`].
pub fn runner(profile: Profile, demands: Demands<'_>) -> Result<Engine, Error> {
    let mut config = profile.config();
    config.max_wasm_stack(WASM_STACK).async_stack_size(NATIVE_STACK);
    if let Demands::Pool(facts, instances) = demands
        && let Some(pool) = pool(profile, facts, instances)
    {
        config.allocation_strategy(InstanceAllocationStrategy::Pooling(pool));
    }
    Engine::new(&config)
}

/// A pool that holds `instances` of the program, or fewer where address space ends; `None` where a pool cannot hold one.
fn pool(profile: Profile, facts: &Facts, instances: u32) -> Option<PoolingAllocationConfig> {
    let memories = u32::try_from(facts.memories.len()).ok()?.max(1);
    let fits_slot = facts.memories.iter().all(|memory| memory.minimum <= 4 << 30);
    if profile == Profile::SmallVa || !fits_slot {
        return None;
    }
    let most = u32::try_from(POOL_ADDRESS_SPACE / (SLOT * u64::from(memories))).unwrap_or(u32::MAX);
    let instances = instances.min(most);
    if instances == 0 {
        return None;
    }
    let core_instances = facts.core_instances.max(1);
    // Toolchains give a module one table at most; what has more does not load into this pool and gets none.
    let tables = core_instances;
    // Tasks of one 0.3 instance run beside each other, each on a stack of its own.
    let stacks = if facts.kind == Kind::Http03 { 2 } else { 1 };
    let mut pool = PoolingAllocationConfig::new();
    pool.total_component_instances(instances)
        .total_core_instances(instances.saturating_mul(core_instances))
        .total_memories(instances.saturating_mul(memories))
        .total_tables(instances.saturating_mul(tables))
        .total_stacks(instances.saturating_mul(stacks))
        .total_gc_heaps(instances)
        .max_core_instances_per_component(core_instances)
        .max_memories_per_component(memories)
        .max_memories_per_module(memories)
        .max_tables_per_component(tables)
        .max_tables_per_module(tables)
        .max_core_instance_size(16 << 20)
        .max_component_instance_size(16 << 20)
        .table_elements(usize::try_from(facts.table_elements).ok()?.max(20_000))
        .max_unused_warm_slots(16);
    // Without it (before Linux 6.7), all that may be kept is written anew for each instance, whether it was touched or not.
    if PoolingAllocationConfig::is_pagemap_scan_available() {
        pool.pagemap_scan(Enabled::Yes)
            .linear_memory_keep_resident(KEPT_OF_MEMORY)
            .table_keep_resident(KEPT_OF_TABLE);
    }
    Some(pool)
}
