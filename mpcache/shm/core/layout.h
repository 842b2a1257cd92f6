/* The segment, drawn and then declared.  Everything that two processes share is in this file.
 *
 *   segment:   | header | namespaces | process slots | lease buckets | shard 0 | shard 1 | ...
 *   namespace: | epoch hard_at soft_at clear_at | name |
 *   slot:      | id generation pid start ... | counters |
 *   bucket:    | word lock, busy bits | 16 leases, one cache line each |
 *   shard:     | word lock | tails, heads | counters | ghosts | index | small ring | main ring |
 *   ghosts:    lines of 32 fingerprints of keys that left unread, newest first
 *   index:     buckets of 8 slot words, one cache line:   tag:12 | freq:2 | ring:1 | position:49
 *   record:    | position | units klen kind flags | version | hash | vlen namespace guest | epoch | created | expires |
 *              | key | value |
 *
 * Positions count units of 8 bytes from the birth of a ring and never decrease; position % capacity is the
 * place in the ring.  New values come to the small ring, a tenth of the log; those that are read go on to main.  A
 * record is valid while tail <= position and its end <= head.  Nothing here is a pointer, so every process may map the
 * segment where it likes.  The geometry is a pure function of five numbers, so an attacher computes it again and
 * believes only what agrees. */
#ifndef MPC_LAYOUT_H
#define MPC_LAYOUT_H

#include "port.h"

#define MPC_MAGIC 0x00656863616370d6ull /* not ASCII in its first byte: no text file begins so */
#ifndef MPC_LAYOUT /* a test builds another one */
#define MPC_LAYOUT 2u
#endif

#define MPC_UNIT 8ull         /* bytes in which positions count; 64 bits, so that no product of units and it wraps */
#define MPC_ALIGN_UNITS 2u    /* records and values start on 16 bytes, like the payload of a bytes object */
#define MPC_MAX_KEY 65535u
#define MPC_NAME_BYTES 63u
#define MPC_NAMESPACES 256u
#define MPC_SLOTS 1024u
#define MPC_MAX_SHARDS 64u
#define MPC_LEASES_PER_BUCKET 16u
#define MPC_SLOTS_PER_BUCKET 8u
#define MPC_COUNTERS 24u
#define MPC_DROP_CLASSES 16u /* of keys in a shard: a cache line that is read by every set, and hardly ever written */

/* Liveness bytes: locks on offsets that no file reaches (liveness.c). */
#define MPC_LIFE_AT (1ll << 60)

/* What a process that attaches copies, computes again and compares; immutable after birth. */
struct mpc_geometry {
    u64 size; /* bytes of the whole segment */
    u32 shards, slots, namespaces, lease_buckets;
    u64 namespaces_at, slots_at, leases_at, shards_at; /* bytes from the segment's start */
    u64 shard_bytes;
    u64 ghost_at, index_at, small_at, main_at; /* bytes from the shard's start */
    u32 ghost_entries, index_buckets;
    u64 small_units, main_units;
    u64 position_limit; /* a ring whose head would pass it is emptied */
};

struct mpc_header {
    u64 magic;
    u32 layout, header_bytes;
    struct mpc_geometry geometry;
    u64 seed[4];  /* of the keyed hashes, so that an attacker cannot aim keys at one bucket */
    u64 birth[2]; /* random: tells this segment from a later one of the same name */
    i64 born_ns;
    u64 checksum; /* over all of the above */

    _Alignas(MPC_LINE) a32 retired; /* read by every operation; written once */
    _Alignas(MPC_LINE) a64 fence;   /* the last fence that was given out */
    _Alignas(MPC_LINE) a32 namespaces_lock;
};

struct mpc_namespace {
    a64 epoch;    /* counts invalidations; a record carries the epoch in which its creation began */
    a64 hard_at;  /* records of an earlier epoch are hidden */
    a64 soft_at;  /* records of an earlier epoch are stale */
    a64 clear_at; /* records of an earlier epoch are not there */
    a32 used;     /* committed last, after the name */
    u32 name_bytes;
    u64 spare[3];
    char name[MPC_LINE];
};

/* What each process counts: one list makes the enum and, in the binding, the names. */
/* clang-format off */
#define MPC_COUNT_LIST(X)                                                                                        \
    X(HITS, hits) X(MISSES, misses) X(SETS, sets) X(ADDS, adds) X(DELETES, deletes) X(FILLS, fills)              \
    X(FILLS_REFUSED, fills_refused) X(DROPPED, dropped) X(LAPS, laps) X(LEASES, leases_taken)                    \
    X(TAKEOVERS, takeovers) X(OWNER_DEATHS, owner_deaths) X(SWAPS, swaps) X(INCRS, incrs) X(TOUCHES, touches)
/* clang-format on */

enum mpc_count {
#define MPC_AS_COUNT(name, text) MPC_COUNT_##name,
    MPC_COUNT_LIST(MPC_AS_COUNT)
#undef MPC_AS_COUNT
        MPC_COUNTS
};
_Static_assert(MPC_COUNTS <= MPC_COUNTERS, "the slot has room for every counter");

/* One attached process.  Counters are never reset: the slot's next owner continues them, so that sums never fall. */
struct mpc_slot {
    a64 id; /* generation << 16 | slot of the process that owns it; 0: free; stored last */
    a64 generation;
    a64 pid, start;     /* its pid, and its start time in clock ticks (proc(5), stat field 22) */
    a64 pid_ns, time_ns; /* inode numbers of its namespaces: within them pid and start time mean the same */
    a64 steps; /* moves while the process is at work under a word lock, and with each that it gives back (wordlock.c) */
    u64 spare;
    a64 count[MPC_COUNTERS];
};

/* One key that a process creates or holds.  `owner` is the commit word: while it is 0 the rest is meaningless. */
struct mpc_lease {
    a64 key[2]; /* 128-bit keyed hash */
    a64 owner; /* id of the process */
    a64 fence; /* number of this hold, greater than that of every hold before */
    a64 voided; /* the fence whose fill must not be stored any more */
    a64 unstored; /* the fence of the last hold that ended without a value */
    a32 seq; /* futex word: changes at each release */
    a32 has_waiters;
    a32 waits_for; /* 1 + the entry that this one's holder waits for; 0: it does not wait */
    u32 spare;
};

struct mpc_lease_bucket {
    a32 lock;
    a32 busy; /* bit i: entry i may have an owner; set before the owner is stored, so a held entry always has its bit */
    u8 pad[MPC_LINE - 8];
    struct mpc_lease lease[MPC_LEASES_PER_BUCKET];
};

enum { MPC_SMALL, MPC_MAIN, MPC_RINGS };

struct mpc_ring {
    a64 tail; /* the oldest record's position: space below it may be written over */
    a64 head; /* the next record's position: space from it on was never published */
};

struct mpc_shard {
    a32 lock;
    a32 moves; /* changes with each unlock, and during long work under the lock: for waiters (wordlock.c) */
    u64 spare;
    a64 widest; /* units of the largest record so far that may be moved; main keeps room for its copy */
    a64 lengths; /* of the last records, a running sum: 64 times their mean, in units */
    a64 refused; /* guests that found no room */
    u8 pad[MPC_LINE - 40];
    struct mpc_ring ring[MPC_RINGS]; /* the line that readers share */
    u8 pad2[MPC_LINE - MPC_RINGS * sizeof(struct mpc_ring)];
    a64 evicted[MPC_RINGS]; /* from here on: counters, written under the lock */
    a64 promoted, reinserted, ghost_hits, expired, overflow, cleared;
    a32 drops[MPC_DROP_CLASSES]; /* sets that gave up, by their key's hash, without the lock; one of the same key that
                                  * was under way meanwhile must not bring an older value back */
};

struct mpc_record {
    u64 position; /* its own: distinguishes a record from what lay here before */
    u32 units; /* its length with key and value, in units */
    u16 klen;
    u8 kind; /* of the key: KIND_* << 4 | TYPE_* of the binding; the core only compares it */
    u8 flags; /* MPC_PAD, or how the value is coded, which only the binding reads */
    u64 version; /* ring and position at which this value was first written, as in a slot word */
    u64 hash;
    u32 vlen;
    u16 namespace; /* its number in the table */
    u16 guest; /* in main because there was room, not because it was read */
    u64 epoch;
    i64 created; /* wall clock, ns */
    i64 expires; /* wall clock, ns; 0: never */
};

#define MPC_PAD 0x80u /* fills the rest of the ring; it has a position and units only */
#define MPC_RECORD_UNITS (sizeof(struct mpc_record) / MPC_UNIT)

_Static_assert(sizeof(struct mpc_namespace) == 2 * MPC_LINE, "epochs and name have a line each");
_Static_assert(MPC_UNIT *UINT32_MAX > UINT32_MAX, "the bytes of the longest record do not wrap");
_Static_assert(sizeof(struct mpc_slot) == 4 * MPC_LINE, "no two processes count on one line");
_Static_assert(sizeof(struct mpc_lease) == MPC_LINE, "a lease is a line");
_Static_assert(sizeof(struct mpc_lease_bucket) == (1 + MPC_LEASES_PER_BUCKET) * MPC_LINE, "bucket");
_Static_assert(sizeof(struct mpc_shard) % MPC_LINE == 0, "a shard's tables start on a line");
_Static_assert(sizeof(struct mpc_record) == 64, "a record's header is 64 bytes");
_Static_assert(sizeof(struct mpc_header) <= 4096, "the header is a page");

/* Slot words of the index. */
#define MPC_POSITION_BITS 49
#define MPC_POSITION_MASK ((1ull << MPC_POSITION_BITS) - 1)
#define MPC_RING_SHIFT 49
#define MPC_FREQ_SHIFT 50
#define MPC_FREQ_ONE (1ull << MPC_FREQ_SHIFT)
#define MPC_FREQ_MASK (3ull << MPC_FREQ_SHIFT)
#define MPC_TAG_SHIFT 52
#define MPC_POSITION_LIMIT (1ull << 48)
#define MPC_LAPS_PER_SET 5 /* no set moves a head by more capacities: 64 moves of 1/32, their pads, and the record */

static inline u64 mpc_word_position(u64 word)
{
    return word & MPC_POSITION_MASK;
}

static inline unsigned mpc_word_ring(u64 word)
{
    return (unsigned)(word >> MPC_RING_SHIFT) & 1u;
}

static inline u64 mpc_word_freq(u64 word)
{
    return (word & MPC_FREQ_MASK) >> MPC_FREQ_SHIFT;
}

/* Return whether two words name one place of one key; they may differ in freq, which readers change. */
static inline bool mpc_same_place(u64 a, u64 b)
{
    return ((a ^ b) & ~MPC_FREQ_MASK) == 0;
}

static inline u64 mpc_word(u64 tag, u64 freq, unsigned ring, u64 position)
{
    return tag << MPC_TAG_SHIFT | freq << MPC_FREQ_SHIFT | (u64)ring << MPC_RING_SHIFT | position;
}

#endif
