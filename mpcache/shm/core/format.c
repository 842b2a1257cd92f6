/* The format of a segment: how it is divided, written and verified.  The geometry follows from the size and three
 * counts; a process that attaches computes it again and refuses a header that differs.
 *
 * Of the segment: 1 hard tag cell (8 bytes) for each MPC_BYTES_PER_TAG_CELL bytes (3.1 %), a soft one for each eight of
 * those, and 1 lease bucket for each 64 KiB (1.7 %).
 *
 * Of a shard: 1 slot word of the index for each MPC_BYTES_PER_SLOT bytes, 1 ghost's fingerprint (2 bytes) for each
 * MPC_BYTES_PER_GHOST, a tenth of the rest for the small ring, what remains for the main ring. */
#include "format.h"

#include "hash.h"

#define MPC_BYTES_PER_SLOT 136u /* values of 100 bytes load the index to 0.7, larger ones less */
#define MPC_BYTES_PER_GHOST 512u
#define MPC_MIN_SHARD (256u << 10)
#define MPC_MAX_SIZE (1ull << 44)
#define MPC_MAX_SHARD (1ull << 40) /* so that the numbers of its buckets and ghosts fit 32 bits */

/* Small segments have fewer stripes: their tables would be half of them. */
#define MPC_FEW_STRIPES 4u
#define MPC_MANY_STRIPES_FROM (32ull << 20)

/* Return the number of lease buckets: one for each 64 KiB of the segment, and never fewer than 16,384 leases. */
static u32 mpc_lease_buckets_for(u64 size)
{
    u32 buckets = 1024;
    while (buckets < 16384 && (u64)buckets * 2 <= size >> 16)
        buckets *= 2;
    return buckets;
}

static void mpc_plan_shard(struct mpc_geometry *g)
{
    g->ghost_at = sizeof(struct mpc_shard);
    g->ghost_entries = (u32)mpc_round_down(g->shard_bytes / MPC_BYTES_PER_GHOST, MPC_LINE / sizeof(u16));
    g->index_at = mpc_round_up(g->ghost_at + sizeof(u16) * g->ghost_entries, MPC_LINE);
    g->index_buckets = (u32)(g->shard_bytes / (MPC_BYTES_PER_SLOT * MPC_SLOTS_PER_BUCKET));
    g->small_at = g->index_at + (u64)g->index_buckets * MPC_LINE;
    u64 log = mpc_round_down(g->shard_bytes - g->small_at, MPC_LINE);
    g->small_units = mpc_round_down(log / 10, MPC_LINE) / MPC_UNIT;
    g->main_at = g->small_at + g->small_units * MPC_UNIT;
    g->main_units = mpc_round_down(log - g->small_units * MPC_UNIT, MPC_LINE) / MPC_UNIT;
}

static void mpc_count_entries(struct mpc_geometry *g, u64 size, u32 slots)
{
    g->slots = slots;
    g->namespaces = MPC_NAMESPACES;
    g->functions = MPC_FUNCTIONS;
    g->stripes = size < MPC_MANY_STRIPES_FROM ? MPC_FEW_STRIPES : MPC_MAX_STRIPES;
    g->tag_cells = (u32)(size / MPC_BYTES_PER_TAG_CELL < UINT32_MAX ? size / MPC_BYTES_PER_TAG_CELL : UINT32_MAX);
    g->soft_tag_cells = g->tag_cells / MPC_HARD_CELLS_PER_SOFT;
    g->lease_buckets = mpc_lease_buckets_for(size);
}

static void mpc_plan_tables(struct mpc_geometry *g, u64 size, u32 slots)
{
    mpc_count_entries(g, size, slots);
    g->namespaces_at = 4096;
    g->slots_at = g->namespaces_at + MPC_NAMESPACES * sizeof(struct mpc_namespace);
    g->tallies_at = g->slots_at + (u64)slots * sizeof(struct mpc_slot);
    g->histograms_at = g->tallies_at + (u64)MPC_NAMESPACES * g->stripes * sizeof(struct mpc_stripe);
    g->functions_at = g->histograms_at + MPC_NAMESPACES * MPC_HISTOGRAMS * sizeof(struct mpc_histogram);
    g->tag_cells_at = g->functions_at + (MPC_FUNCTIONS + 1) * sizeof(struct mpc_function);
    g->soft_tag_cells_at = mpc_round_up(g->tag_cells_at + (u64)g->tag_cells * sizeof(a64), MPC_LINE);
    g->leases_at = mpc_round_up(g->soft_tag_cells_at + (u64)g->soft_tag_cells * sizeof(a64), MPC_LINE);
    g->shards_at = mpc_round_up(g->leases_at + (u64)g->lease_buckets * sizeof(struct mpc_lease_bucket), 4096);
}

/* Return the bytes of the smallest segment with so many shards and every process slot.  Its tables grow with it, and
 * take less than a tenth of what it grows by. */
u64 mpc_smallest(u32 shards)
{
    struct mpc_geometry g;
    u64 size = 0, least = (u64)shards * MPC_MIN_SHARD;
    while (size < least) {
        size = least;
        mpc_plan_tables(&g, size, MPC_SLOTS);
        least = g.shards_at + (u64)shards * MPC_MIN_SHARD;
    }
    return size;
}

mpc_status mpc_plan(struct mpc_geometry *g, u64 size, u32 shards, u32 slots, u64 position_limit)
{
    memset(g, 0, sizeof *g);
    if (size > MPC_MAX_SIZE || shards == 0 || shards > MPC_MAX_SHARDS || (shards & (shards - 1)) != 0 || slots == 0 ||
        slots > MPC_SLOTS || position_limit > MPC_POSITION_LIMIT)
        return MPC_BAD_HEADER;
    g->size = size;
    g->shards = shards;
    mpc_plan_tables(g, size, slots);
    if (size < g->shards_at + (u64)shards * MPC_MIN_SHARD)
        return MPC_TOO_SMALL;
    g->shard_bytes = mpc_round_down((size - g->shards_at) / shards, MPC_LINE);
    if (g->shard_bytes > MPC_MAX_SHARD)
        return MPC_BAD_HEADER;
    g->position_limit = position_limit;
    mpc_plan_shard(g);
    return position_limit > (MPC_LAPS_PER_SET + 3) * g->main_units ? MPC_OK : MPC_BAD_HEADER;
}

/* Copy what never changes after birth, and leave out what may change meanwhile. */
static void mpc_copy_header(struct mpc_header *to, const u8 *base)
{
    memset(to, 0, sizeof *to);
    memcpy(to, base, MPC_RETIRED_AT);
    size_t at = offsetof(struct mpc_header, geometry), end = offsetof(struct mpc_header, fence);
    memcpy((u8 *)to + at, base + at, end - at);
}

/* `header` is a copy, in which `retired` is 0. */
static u64 mpc_header_checksum(const struct mpc_header *header)
{
    static const u64 seed[2] = {0x6d70636163686531ull, 0x736567206865616dull};
    return mpc_hash(seed, 0, header, offsetof(struct mpc_header, checksum));
}

/* Positions begin at one capacity, so that no slot word of a record is ever 0, and the first record has place 0. */
static void mpc_format_shard(u8 *base, const struct mpc_geometry *g, u32 which)
{
    struct mpc_shard *shard = (struct mpc_shard *)(base + g->shards_at + which * g->shard_bytes);
    u64 start[MPC_RINGS] = {g->small_units, g->main_units};
    for (int i = 0; i < MPC_RINGS; i++) {
        mpc_store(&shard->ring[i].tail, start[i]);
        mpc_store(&shard->ring[i].head, start[i]);
    }
}

/* `base` is zero-filled memory of geometry->size bytes that no other process can see yet. */
mpc_status mpc_format(u8 *base, const struct mpc_geometry *geometry)
{
    struct mpc_header *header = (struct mpc_header *)base;
    header->layout = MPC_LAYOUT;
    header->header_bytes = sizeof *header;
    header->geometry = *geometry;
    header->born_ns = mpc_wall_ns();
    if (!mpc_random(header->seed, sizeof header->seed) || !mpc_random(header->birth, sizeof header->birth))
        return MPC_SYSTEM;
    for (u32 i = 0; i < geometry->shards; i++)
        mpc_format_shard(base, geometry, i);
    header->magic = MPC_MAGIC;
    header->checksum = mpc_header_checksum(header);
    struct mpc_namespace *namespaces = (struct mpc_namespace *)(base + geometry->namespaces_at);
    mpc_store_release(&namespaces[0].used, 1); /* '' is always there */
    return MPC_OK;
}

/* Verify a header.  Its first two words are the same in every layout there will be. */
mpc_status mpc_verify(const u8 *base, u64 mapped, struct mpc_geometry *geometry)
{
    struct mpc_header header;
    if (mapped < sizeof header)
        return MPC_TRUNCATED;
    mpc_copy_header(&header, base);
    if (header.magic != MPC_MAGIC)
        return MPC_NOT_A_SEGMENT;
    if (header.layout != MPC_LAYOUT || header.header_bytes != sizeof header)
        return MPC_OTHER_LAYOUT;
    const struct mpc_geometry *said = &header.geometry;
    if (mpc_header_checksum(&header) != header.checksum ||
        mpc_plan(geometry, said->size, said->shards, said->slots, said->position_limit) != MPC_OK ||
        memcmp(geometry, said, sizeof *said) != 0)
        return MPC_BAD_HEADER;
    return mapped < geometry->size ? MPC_TRUNCATED : MPC_OK;
}
