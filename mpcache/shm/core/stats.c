/* Statistics: sums of the counters of all processes, and what the shards hold now. */
#include "stats.h"

#include "evict.h"
#include "index.h"
#include "lease_table.h"
#include "liveness.h"
#include "tally.h"

static void mpc_sum_shard(mpc_ctx *ctx, struct mpc_shard *shard, mpc_stats *stats)
{
    stats->promoted += mpc_load(&shard->promoted);
    stats->reinserted += mpc_load(&shard->reinserted);
    stats->ghost_hits += mpc_load(&shard->ghost_hits);
    stats->expired += mpc_load(&shard->expired);
    stats->overflow += mpc_load(&shard->overflow);
    stats->cleared += mpc_load(&shard->cleared);
    for (unsigned i = 0; i < MPC_RINGS; i++) {
        u64 head = mpc_load(&shard->ring[i].head), tail = mpc_load(&shard->ring[i].tail);
        stats->ring[i].evicted += mpc_load(&shard->evicted[i]);
        u64 capacity = mpc_ring_units(ctx, i), used = head > tail ? head - tail : 0;
        stats->ring[i].used_bytes += (used < capacity ? used : capacity) * MPC_UNIT;
        stats->ring[i].capacity_bytes += capacity * MPC_UNIT;
    }
    a64 *slots = (a64 *)((u8 *)shard + ctx->geometry.index_at);
    for (u64 i = 0; i < (u64)ctx->geometry.index_buckets * MPC_SLOTS_PER_BUCKET && !mpc_retired(ctx); i++) {
        u64 word = mpc_load_acquire(&slots[i]);
        struct mpc_record record;
        const u8 *at;
        if (mpc_is_stale_slot(shard, word) || !mpc_record_at(ctx, shard, word, &record, &at))
            continue;
        stats->ring[mpc_word_ring(word)].items++;
        stats->ring[mpc_word_ring(word)].live_bytes += record.units * MPC_UNIT;
    }
}

static void mpc_sum_processes(mpc_ctx *ctx, mpc_stats *stats)
{
    for (u32 i = 0; i < ctx->geometry.slots; i++) {
        struct mpc_slot *slot = mpc_slot_at(ctx, i);
        u64 id = mpc_load_acquire(&slot->id);
        stats->processes += id != 0 && !mpc_is_dead(ctx, id);
        for (int what = 0; what < MPC_COUNTS; what++)
            stats->count[what] += mpc_load(&slot->count[what]);
    }
    stats->count[MPC_COUNT_HITS] += mpc_words_sum(ctx, MPC_TALLY_HITS);
    stats->count[MPC_COUNT_MISSES] += mpc_words_sum(ctx, MPC_TALLY_MISSES);
}

static void mpc_sum_leases(mpc_ctx *ctx, mpc_stats *stats)
{
    struct mpc_lease_bucket *buckets = (struct mpc_lease_bucket *)(ctx->base + ctx->geometry.leases_at);
    for (u32 i = 0; i < ctx->geometry.lease_buckets; i++)
        for (u32 busy = mpc_load(&buckets[i].busy) & ((1u << MPC_LEASES_PER_BUCKET) - 1); busy; busy &= busy - 1)
            stats->leases += mpc_load(&buckets[i].lease[__builtin_ctz(busy)].owner) != 0;
}

/* Return how many keys living processes hold, without this one. */
u32 mpc_leases_of_others(mpc_ctx *ctx)
{
    u32 held = 0;
    u64 me = mpc_load(&ctx->self->owner);
    struct mpc_lease_bucket *buckets = (struct mpc_lease_bucket *)(ctx->base + ctx->geometry.leases_at);
    for (u32 i = 0; i < ctx->geometry.lease_buckets; i++)
        for (u32 busy = mpc_load(&buckets[i].busy) & ((1u << MPC_LEASES_PER_BUCKET) - 1); busy; busy &= busy - 1) {
            u64 owner = mpc_load_acquire(&buckets[i].lease[__builtin_ctz(busy)].owner);
            held += owner != 0 && owner != me && !mpc_is_dead(ctx, owner);
        }
    return held;
}

/* Read the statistics.  Counters are exact sums over all processes that were ever attached; items and bytes are
 * counted during the walk. */
void mpc_stats_read(mpc_ctx *ctx, mpc_stats *stats)
{
    memset(stats, 0, sizeof *stats);
    for (u32 i = 0; i < ctx->geometry.shards; i++)
        mpc_sum_shard(ctx, mpc_shard_at(ctx, i), stats);
    mpc_sum_processes(ctx, stats);
    mpc_sum_leases(ctx, stats);
    for (u16 i = 0; i < MPC_NAMESPACES; i++)
        stats->namespaces += mpc_load(&mpc_namespace_at(ctx, i)->used) != 0;
    stats->largest_value = mpc_largest_value(ctx, 64);
}
