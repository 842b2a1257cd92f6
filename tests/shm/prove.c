/* Stop a process after each single instruction of an operation, and check what it would leave if it died there.
 *
 *     prove [-a] [-k STRIDE | -r STRIDE] [OPERATION...]          exit status 0: nothing was ever wrong
 *
 * A child attaches, stops, and runs the operation under ptrace, one instruction at a time.  Whenever an instruction has
 * changed the segment, its bytes are copied to a twin to which no process is attached: exactly what a SIGKILL at this
 * instruction leaves.  There this process attaches, runs check(), reads every key, writes every key, takes every lease
 * and fills under it, and runs check() again, all within bounded time.
 *
 * With -r no process dies: after every STRIDE-th instruction of the operation a rival changes the same key, and the
 * operation goes on to its end.  Whatever the moment, the result must be as if one had come after the other.
 *
 * With -k the child is really killed, at every STRIDE-th instruction, and the segment itself is checked: much
 * slower, since each death needs a child of its own; it shows that the twin is a true copy. */
#include "engine.h"
#include "index.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <unistd.h>

#define KEYS 24
#define KEPT 5 /* the key that is to be moved, and may be missed at no moment */
#define MANY 400 /* of one operation; of further states each 32nd is looked at, or with -a all */
#define LOW_LIMIT (1u << 20) /* a few capacities of the main ring that this segment has */
#define BOUND_NS (150 * MPC_NS_PER_MS) /* no operation may take longer after a death */

static int segment_fd, twin_fd;
static u64 segment_size;
static u8 *segment, *twin, *image, *before;

/* -- values that prove themselves ---------------------------------------------------------------------------------- */

static u8 buffer[1 << 16], copy[1 << 16];

#define LARGE (KEYS - 1) /* the key whose values need much room */
#define TALLY (KEYS - 2) /* the key whose values are numbers: 100 + generation */
#define NUMBER 4         /* their flags */

/* A value of a generation: its length and every byte follow from key and generation. */
static u32 make_value(int key, int generation)
{
    if (key == TALLY) {
        i64 number = 100 + generation;
        memcpy(buffer, &number, sizeof number);
        return sizeof number;
    }
    u32 len = (key == LARGE ? 5000 : 64) + (u32)(key * 79 + generation * 151) % 300;
    for (u32 i = 0; i < len; i++)
        buffer[i] = (u8)(key * 7 + generation * 31 + (int)i);
    return len;
}

static mpc_key key_number(mpc_ctx *ctx, int number)
{
    static char names[KEYS][32];
    mpc_key key;
    int len = snprintf(names[number], sizeof names[number], "key number %d", number);
    mpc_key_init(ctx, &key, 0, 0, names[number], (u32)len);
    return key;
}

static mpc_value value_of(int key, int generation)
{
    u32 len = make_value(key, generation);
    return (mpc_value){.bytes = buffer, .len = len, .created = 1, .flags = key == TALLY ? NUMBER : 0};
}

static mpc_status set(mpc_ctx *ctx, int number, int generation)
{
    mpc_key key = key_number(ctx, number);
    mpc_value value = value_of(number, generation);
    return mpc_set(ctx, &key, &value, MPC_SHARD_WAIT_NS);
}

/* The generation that is stored; -1: none; -2: what is stored is no value of these operations. */
static int read_generation(mpc_ctx *ctx, int number)
{
    mpc_key key = key_number(ctx, number);
    mpc_hit hit;
    if (mpc_find(ctx, &key, &hit) != MPC_OK || mpc_copy(ctx, &hit, copy) != MPC_OK)
        return -1;
    for (int generation = 0; generation < 4; generation++)
        if (make_value(number, generation) == hit.record.vlen && memcmp(buffer, copy, hit.record.vlen) == 0)
            return generation;
    return -2;
}

/* -- operations ---------------------------------------------------------------------------------------------------- */

static mpc_hold held;
static mpc_key target; /* made before the first instruction counts */
static mpc_value news;
static mpc_hit shown;      /* the target as it is before the operation */
static mpc_status outcome; /* of a change */

static void set_news(mpc_ctx *ctx)
{
    mpc_set(ctx, &target, &news, MPC_SHARD_WAIT_NS);
}

static const u64 hashes[] = {0x1111111111111111ull, 0x2222222222222222ull};

static void set_tagged(mpc_ctx *ctx)
{
    mpc_value tagged = news;
    tagged.tags = hashes;
    tagged.n_tags = sizeof hashes / sizeof *hashes;
    mpc_set(ctx, &target, &tagged, MPC_SHARD_WAIT_NS);
}

#define FUNCTION "a module.a function"

static void act_count_in_tables(mpc_ctx *ctx)
{
    a64 *word = mpc_request_word(ctx, 0, MPC_TALLY_HITS);
    if (word)
        mpc_count_in_word(word, 1);
    mpc_tally(ctx, 0, MPC_TALLY_CREATED, 1);
    mpc_observe(ctx, 0, MPC_CREATING, 1000);
    mpc_function_count(ctx, mpc_function_open(ctx, 0, FUNCTION, sizeof FUNCTION - 1), MPC_FUNCTION_CALLS, 1);
}

/* The same bytes out of three places, one of them empty. */
static void set_pieces(mpc_ctx *ctx)
{
    mpc_piece pieces[] = {
        {news.bytes, news.len / 3}, {NULL, 0}, {(const char *)news.bytes + news.len / 3, news.len - news.len / 3}};
    mpc_value value = news;
    value.bytes = NULL;
    value.pieces = pieces;
    value.n_pieces = 3;
    mpc_set(ctx, &target, &value, MPC_SHARD_WAIT_NS);
}

static int target_number(void);

static void fill_up(mpc_ctx *ctx, int keys)
{
    for (int i = 0; i < keys; i++)
        set(ctx, i, 0);
}

static void prepare_few(mpc_ctx *ctx)
{
    fill_up(ctx, 8);
}

static void prepare_tally(mpc_ctx *ctx)
{
    fill_up(ctx, 8);
    set(ctx, TALLY, 0);
}

static u8 filling[1 << 16];

static mpc_key filler(mpc_ctx *ctx, int number)
{
    static char name[32];
    mpc_key key;
    mpc_key_init(ctx, &key, 0, 0, name, (u32)snprintf(name, sizeof name, "filler %d", number));
    return key;
}

static void set_filler(mpc_ctx *ctx, int number, u32 len)
{
    mpc_key key = filler(ctx, number);
    mpc_value value = {.bytes = filling, .len = len, .created = 1};
    mpc_set(ctx, &key, &value, MPC_SHARD_WAIT_NS);
}

static void set_and_read_filler(mpc_ctx *ctx, int number, u32 len)
{
    mpc_hit hit;
    set_filler(ctx, number, len);
    mpc_key key = filler(ctx, number);
    mpc_find(ctx, &key, &hit);
}

static struct mpc_shard *shard_of(mpc_ctx *ctx)
{
    return mpc_shard_at(ctx, 0);
}

static u64 tail_of(mpc_ctx *ctx, unsigned ring)
{
    return mpc_load(&shard_of(ctx)->ring[ring].tail);
}

static u64 free_units(mpc_ctx *ctx, unsigned ring)
{
    return mpc_ring_units(ctx, ring) - (mpc_load(&shard_of(ctx)->ring[ring].head) - tail_of(ctx, ring));
}

static void read_tail(mpc_ctx *ctx, unsigned ring)
{
    mpc_hit hit;
    const u8 *at = mpc_ring_base(ctx, shard_of(ctx), ring) + tail_of(ctx, ring) % mpc_ring_units(ctx, ring) * MPC_UNIT;
    const struct mpc_record *record = (const struct mpc_record *)at;
    mpc_key key;
    mpc_key_init(ctx, &key, 0, 0, at + sizeof *record, record->klen);
    mpc_find(ctx, &key, &hit);
}

#define SMALLER 8 /* bytes of a filler that takes less room than any key's value */

static int next_filler;

/* Main is full of what was read while it was small, and has evicted some of it. */
static void crowd(mpc_ctx *ctx)
{
    next_filler = 0;
    while (mpc_load(&shard_of(ctx)->evicted[MPC_MAIN]) == 0)
        set_and_read_filler(ctx, next_filler++, 600);
}

/* The next set of a small value finds no room in the small ring. */
static void fill_small(mpc_ctx *ctx)
{
    while (free_units(ctx, MPC_SMALL) >= mpc_units(16, SMALLER, 0))
        set_filler(ctx, next_filler++, SMALLER);
}

/* What leaves is unread, and main has no room for guests. */
static void prepare_evict(mpc_ctx *ctx)
{
    crowd(ctx);
    for (u64 until = mpc_load(&shard_of(ctx)->ring[MPC_SMALL].head); tail_of(ctx, MPC_SMALL) < until;)
        set_filler(ctx, next_filler++, 600);
    fill_up(ctx, 3);
    fill_small(ctx);
}

static u64 word_of(mpc_ctx *ctx, int number)
{
    mpc_hit hit = {0};
    mpc_key key = key_number(ctx, number);
    mpc_look_up(ctx, shard_of(ctx), &key, &hit); /* does not count as a read */
    return hit.word;
}

static bool is_in(mpc_ctx *ctx, int number, unsigned ring)
{
    u64 word = word_of(ctx, number);
    return word != 0 && mpc_word_ring(word) == ring;
}

static u64 place_of(mpc_ctx *ctx, int number)
{
    return mpc_word_position(word_of(ctx, number));
}

static u64 set_and_read(mpc_ctx *ctx, int number, int generation)
{
    set(ctx, number, generation);
    read_generation(ctx, number);
    return place_of(ctx, number);
}

/* The next set that finds no room in the small ring has this record to deal with. */
static void bring_to_tail(mpc_ctx *ctx, u64 position)
{
    while (tail_of(ctx, MPC_SMALL) < position)
        set_filler(ctx, next_filler++, 600);
    fill_small(ctx);
}

/* What leaves the small ring was read.  In main one record was, and the next was not. */
static void prepare_promote(mpc_ctx *ctx)
{
    crowd(ctx);
    bring_to_tail(ctx, set_and_read(ctx, KEPT, 0));
    read_tail(ctx, MPC_MAIN);
}

/* What would leave the small ring is what is overwritten. */
static void prepare_own(mpc_ctx *ctx)
{
    crowd(ctx);
    set(ctx, target_number(), 0);
    bring_to_tail(ctx, place_of(ctx, target_number()));
}

/* So it is in main. */
static void prepare_own_in_main(mpc_ctx *ctx)
{
    int own = target_number();
    crowd(ctx);
    set_and_read(ctx, own, 0);
    while (is_in(ctx, own, MPC_SMALL))
        set_filler(ctx, next_filler++, 600);
    while (tail_of(ctx, MPC_MAIN) < place_of(ctx, own))
        set_and_read_filler(ctx, next_filler++, 600);
}

/* What leaves the small ring was read, and then overwritten. */
static void prepare_superseded(mpc_ctx *ctx)
{
    crowd(ctx);
    u64 position = set_and_read(ctx, KEPT, 0);
    set_and_read(ctx, KEPT, 1);
    bring_to_tail(ctx, position);
}

/* Wherever one looks, everything was read: the next set moves as much as it may, and then evicts. */
static void prepare_busy(mpc_ctx *ctx)
{
    crowd(ctx);
    fill_up(ctx, KEYS);
    for (int i = 0; i < next_filler; i++) {
        mpc_hit hit;
        mpc_key key = filler(ctx, i);
        mpc_find(ctx, &key, &hit);
    }
    for (int i = 0; i < 40; i++)
        set_and_read_filler(ctx, next_filler++, SMALLER);
}

/* The key has left unread, not long ago. */
static void prepare_ghost(mpc_ctx *ctx)
{
    prepare_evict(ctx);
    set(ctx, 20, 0);
    while (is_in(ctx, 20, MPC_SMALL))
        set_filler(ctx, next_filler++, 600);
    read_tail(ctx, MPC_MAIN);
}

static void prepare_guest(mpc_ctx *ctx)
{
    for (next_filler = 0; next_filler < 10;)
        set_filler(ctx, next_filler++, 600);
    prepare_few(ctx);
    fill_small(ctx);
}

static bool is_before_limit(mpc_ctx *ctx, unsigned ring)
{
    u64 head = mpc_load(&shard_of(ctx)->ring[ring].head);
    return head + MPC_LAPS_PER_SET * mpc_ring_units(ctx, ring) <= ctx->geometry.position_limit;
}

/* The next set would pass the limit of positions of one ring; the other has something in it. */
static void prepare_limit_of_small(mpc_ctx *ctx)
{
    prepare_promote(ctx);
    for (int i = 0; is_before_limit(ctx, MPC_SMALL); i++)
        set(ctx, i % 3, 0);
}

static void prepare_limit_of_main(mpc_ctx *ctx)
{
    prepare_promote(ctx);
    while (is_before_limit(ctx, MPC_MAIN))
        set_filler(ctx, 0, 20000); /* too large for the small ring */
}

/* A lease whose holder is dead: its process is this one, which detaches without giving it back. */
static void prepare_dead_holder(mpc_ctx *ctx)
{
    prepare_few(ctx);
    mpc_key key = key_number(ctx, 0);
    mpc_wait wait = {0};
    mpc_lease_try(ctx, &key, &held, &wait, MPC_SHARD_WAIT_NS);
}

static void act_add(mpc_ctx *ctx)
{
    outcome = mpc_add_new(ctx, &target, &news, MPC_SHARD_WAIT_NS);
}

static void act_swap(mpc_ctx *ctx)
{
    outcome = mpc_compare_and_set(ctx, &target, shown.record.version, &news, MPC_SHARD_WAIT_NS);
}

static void act_swap_in_vain(mpc_ctx *ctx)
{
    outcome = mpc_compare_and_set(ctx, &target, shown.record.version - 2, &news, MPC_SHARD_WAIT_NS);
}

static void incr_from(mpc_ctx *ctx, const i64 *initial)
{
    i64 sum;
    mpc_value fresh = {.created = 1, .flags = NUMBER};
    outcome = mpc_incr(ctx, &target, 1, initial, &fresh, &sum, MPC_SHARD_WAIT_NS);
}

static void act_incr(mpc_ctx *ctx)
{
    incr_from(ctx, NULL);
}

static void act_count(mpc_ctx *ctx)
{
    i64 initial = 100;
    incr_from(ctx, &initial);
}

#define LATER ((i64)1 << 62)

static void act_touch(mpc_ctx *ctx)
{
    outcome = mpc_touch(ctx, &target, LATER, NUMBER, MPC_SHARD_WAIT_NS);
}

/* A scan over the keys, as it comes to the slot of one. */
static void act_keys(mpc_ctx *ctx)
{
    mpc_hit hit;
    const a64 *index = (const a64 *)((u8 *)shard_of(ctx) + ctx->geometry.index_at);
    mpc_cursor cursor = {.shard = 0, .slot = (u64)(shown.slot - index)};
    outcome = mpc_next_key(ctx, &cursor, 0, &hit, copy);
    if (outcome == MPC_OK && hit.record.hash != target.hash)
        outcome = MPC_ABSENT;
}

static void act_delete(mpc_ctx *ctx)
{
    mpc_delete(ctx, &target, MPC_SHARD_WAIT_NS);
}

static void act_lease(mpc_ctx *ctx)
{
    mpc_wait wait = {0};
    if (mpc_lease_try(ctx, &target, &held, &wait, MPC_SHARD_WAIT_NS) == MPC_OK)
        mpc_lease_release(ctx, &held, MPC_ENDED_STORED, MPC_SHARD_WAIT_NS);
}

static void act_fill(mpc_ctx *ctx)
{
    if (mpc_lease_guard(ctx, &target, &held, MPC_SHARD_WAIT_NS) != MPC_OK)
        return;
    mpc_fill(ctx, &target, &news, &held, MPC_SHARD_WAIT_NS);
    mpc_lease_release(ctx, &held, MPC_ENDED_STORED, MPC_SHARD_WAIT_NS);
}

static void act_invalidate(mpc_ctx *ctx)
{
    u16 namespace;
    mpc_invalidate(ctx, 0, false);
    mpc_namespace_open(ctx, "another", 7, &namespace);
}

static void act_attach_and_detach(mpc_ctx *ctx)
{
    mpc_unregister(ctx);
    mpc_register(ctx);
    mpc_unregister(ctx);
}

static const struct operation {
    const char *name;
    void (*prepare)(mpc_ctx *);
    void (*act)(mpc_ctx *);
    int changes; /* the key whose value may be of generation 0, of 1, or gone; every other is as it was, */
    bool may_vanish, evicts; /* or, if the operation evicts, gone, */
    int keeps;               /* but this one */
    bool leaves_holder;
    int target; /* a key that is looked at and stays as it is; -1: what changes */
} operations[] = {
    {"insert", prepare_few, set_news, 20, true, false, -1, false, -1},
    {"overwrite", prepare_few, set_news, 0, false, false, -1, false, -1},
    {"tagged", prepare_few, set_tagged, 0, false, false, -1, false, -1},
    {"tables", prepare_few, act_count_in_tables, -1, false, false, -1, false, -1},
    {"pieces", prepare_few, set_pieces, 0, false, false, -1, false, -1},
    {"add", prepare_few, act_add, 20, true, false, -1, false, -1},
    {"delete", prepare_few, act_delete, 0, true, false, -1, false, -1},
    {"evict", prepare_evict, set_news, 20, true, true, -1, false, -1},
    {"promote", prepare_promote, set_news, 20, true, true, KEPT, false, -1},
    {"own", prepare_own, set_news, KEPT, false, true, KEPT, false, -1},
    {"own-in-main", prepare_own_in_main, set_news, KEPT, false, true, KEPT, false, -1},
    {"superseded", prepare_superseded, set_news, 20, true, true, KEPT, false, -1},
    {"evict-many", prepare_busy, set_news, LARGE, true, true, -1, false, -1},
    {"ghost", prepare_ghost, set_news, 20, true, true, -1, false, -1},
    {"guest", prepare_guest, set_news, 20, true, false, -1, false, -1},
    {"restart", prepare_limit_of_small, set_news, 1, true, true, -1, false, -1},
    {"restart-main", prepare_limit_of_main, set_news, LARGE, true, true, -1, false, -1},
    {"swap", prepare_few, act_swap, 0, false, false, -1, false, -1},
    {"swap-in-vain", prepare_few, act_swap_in_vain, -1, false, false, -1, false, 0},
    {"swap-own", prepare_own_in_main, act_swap, KEPT, false, true, KEPT, false, -1},
    {"incr", prepare_tally, act_incr, TALLY, false, false, -1, false, -1},
    {"incr-own", prepare_own_in_main, act_incr, TALLY, false, true, TALLY, false, -1},
    {"count", prepare_few, act_count, TALLY, true, false, -1, false, -1},
    {"touch", prepare_few, act_touch, 0, false, false, -1, false, -1},
    {"touch-own", prepare_own_in_main, act_touch, KEPT, false, true, KEPT, false, -1},
    {"keys", prepare_promote, act_keys, -1, false, true, -1, false, KEPT},
    {"lease", prepare_few, act_lease, -1, false, false, -1, false, -1},
    {"takeover", prepare_dead_holder, act_lease, -1, false, false, -1, true, -1},
    {"fill", prepare_few, act_fill, 0, false, false, -1, false, -1},
    {"invalidate", prepare_few, act_invalidate, -1, false, false, -1, false, -1},
    {"attach", prepare_dead_holder, act_attach_and_detach, -1, false, false, -1, true, -1},
};

/* -- looking at what was left -------------------------------------------------------------------------------------- */

static const struct operation *now;
static long step;
static int complaints;

static void complain(const char *what, int key, long long detail)
{
    printf("%s, dead after %ld instructions: %s (key %d, %lld)\n", now->name, step, what, key, detail);
    complaints++;
}

static int target_number(void)
{
    return now->changes >= 0 ? now->changes : now->target >= 0 ? now->target : 0;
}

static int generation_before[KEYS];
static u64 version_before[KEYS];

/* A key that has its old value has its old version, and ends when it was to end, or as the operation wanted it. */
static void look_at_record(mpc_ctx *ctx, int number)
{
    mpc_hit hit;
    mpc_key key = key_number(ctx, number);
    if (mpc_look_up(ctx, shard_of(ctx), &key, &hit) != MPC_OK)
        return;
    if (read_generation(ctx, number) == generation_before[number] && hit.record.version != version_before[number])
        complain("a value has another version", number, (long long)hit.record.version);
    u32 n_tags = mpc_tags_of(hit.record.more);
    if (n_tags != (now->act == set_tagged && number == now->changes && read_generation(ctx, number) == 1 ? 2 : 0) ||
        memcmp(hit.value - n_tags * sizeof *hashes, hashes, n_tags * sizeof *hashes) != 0)
        complain("a value has other tags", number, n_tags);
    if (hit.record.expires != 0 && !(number == now->changes && hit.record.expires == LATER))
        complain("a value ends at another time", number, (long long)hit.record.expires);
}

/* Whether another process counts in the tables as if the dead one had done nothing, or all. */
static void look_at_tables(mpc_ctx *ctx)
{
    u64 sums[MPC_TALLY_KINDS];
    u16 namespace = 1;
    char name[MPC_FUNCTION_NAME_BYTES];
    u32 row = mpc_function_open(ctx, 0, FUNCTION, sizeof FUNCTION - 1);
    if (row != 0 || mpc_function_name(ctx, row, &namespace, name) != sizeof FUNCTION - 1 || namespace != 0 ||
        memcmp(name, FUNCTION, sizeof FUNCTION - 1) != 0)
        complain("a function has another row or name", 0, row);
    mpc_tallies_read(ctx, 0, sums);
    if (sums[MPC_TALLY_HITS] > 1 || sums[MPC_TALLY_CREATED] > sums[MPC_TALLY_HITS])
        complain("a request was counted twice, or before another one", 0, (long long)sums[MPC_TALLY_HITS]);
    if (mpc_load(&mpc_function_at(ctx, row)->count[MPC_FUNCTION_CALLS]) > sums[MPC_TALLY_CREATED])
        complain("a call was counted too early", 0, 0);
}

static void look_at_values(mpc_ctx *ctx)
{
    if (now->act == act_count_in_tables)
        look_at_tables(ctx);
    for (int i = 0; i < KEYS; i++) {
        int found = read_generation(ctx, i);
        bool changed = i == now->changes;
        if (found == -2)
            complain("a value is corrupt", i, found);
        else if (found == -1 && generation_before[i] != -1 && !(changed && now->may_vanish) &&
                 (!now->evicts || i == now->keeps))
            complain("a value is gone", i, found);
        else if (found != -1 && found != generation_before[i] && !(changed && found == 1))
            complain("a value is another one", i, found);
        look_at_record(ctx, i);
    }
}

static void check(mpc_ctx *ctx)
{
    char why[200];
    if (mpc_check(ctx, why, sizeof why) != MPC_OK) {
        complain("check() failed", -1, 0);
        printf("    %s\n", why);
    }
}

static void write_all(mpc_ctx *ctx)
{
    for (int i = 0; i < KEYS; i++) {
        u64 start = mpc_mono_ns();
        if (set(ctx, i, 2) != MPC_OK)
            complain("a set failed", i, 0);
        if (mpc_mono_ns() - start > BOUND_NS)
            complain("a set took long", i, (long long)(mpc_mono_ns() - start));
        if (read_generation(ctx, i) != 2)
            complain("what was set is not found", i, read_generation(ctx, i));
    }
}

static mpc_status take_in_time(mpc_ctx *ctx, const mpc_key *key, mpc_hold *hold)
{
    mpc_wait wait = {0};
    u64 start = mpc_mono_ns();
    mpc_status status;
    while ((status = mpc_lease_try(ctx, key, hold, &wait, MPC_SHARD_WAIT_NS)) != MPC_OK &&
           mpc_mono_ns() - start < BOUND_NS)
        mpc_lease_wait(ctx, &wait, NULL, 0, MPC_TAKEOVER_NS);
    return status;
}

static void lease_all(mpc_ctx *ctx)
{
    for (int i = 0; i < KEYS; i++) {
        mpc_key key = key_number(ctx, i);
        mpc_hold hold;
        mpc_value value = value_of(i, 3);
        if (take_in_time(ctx, &key, &hold) != MPC_OK)
            complain("a lease cannot be had", i, 0);
        else if (mpc_fill(ctx, &key, &value, &hold, MPC_SHARD_WAIT_NS) != MPC_OK || read_generation(ctx, i) != 3)
            complain("a fill failed", i, 0);
        else if (mpc_lease_release(ctx, &hold, MPC_ENDED_STORED, MPC_SHARD_WAIT_NS) != MPC_OK)
            complain("a lease cannot be given back", i, 0);
    }
}

static void look(int fd)
{
    mpc_ctx ctx;
    if (mpc_open(&ctx, fd, NULL) != MPC_OK) {
        complain("the segment cannot be attached", -1, 0);
        return;
    }
    check(&ctx);
    look_at_values(&ctx);
    write_all(&ctx);
    lease_all(&ctx);
    check(&ctx);
    mpc_close(&ctx);
}

/* -- killing ------------------------------------------------------------------------------------------------------- */

static void be_the_victim(void)
{
    mpc_ctx ctx;
    ptrace(PTRACE_TRACEME, 0, NULL, NULL);
    if (mpc_open(&ctx, segment_fd, NULL) != MPC_OK || mpc_register(&ctx) != MPC_OK)
        _exit(3);
    target = key_number(&ctx, target_number());
    news = value_of(target_number(), 1);
    mpc_look_up(&ctx, shard_of(&ctx), &target, &shown);
    raise(SIGSTOP);
    now->act(&ctx);
    _exit(outcome);
}

/* A child at the first instruction of its operation. */
static pid_t bring_to_operation(void)
{
    int status;
    memcpy(segment, image, segment_size);
    pid_t victim = fork();
    if (victim == 0)
        be_the_victim();
    waitpid(victim, &status, 0);
    if (!WIFSTOPPED(status))
        complain("the victim did not come to its operation", -1, status);
    return victim;
}

/* One instruction; whether the operation is over. */
static bool one_step(pid_t victim)
{
    int status;
    ptrace(PTRACE_SINGLESTEP, victim, NULL, NULL);
    waitpid(victim, &status, 0);
    return WIFEXITED(status) || WIFSIGNALED(status);
}

static bool all;

static long look_after_every_instruction(void)
{
    long points = 0, looks = 0;
    pid_t victim = bring_to_operation();
    memcpy(before, segment, segment_size);
    for (step = 1; complaints < 10 && !one_step(victim); step++) {
        if (memcmp(before, segment, segment_size) == 0)
            continue;
        memcpy(before, segment, segment_size);
        if (!all && points++ > MANY && points % 32 != 0)
            continue; /* a long loop of one kind of store */
        memcpy(twin, segment, segment_size);
        look(twin_fd);
        looks++;
    }
    return looks;
}

static long kill_after_every(long stride)
{
    long points = 0;
    bool over = false;
    for (step = 1 + stride / 2; !over && complaints < 10; step += stride, points++) {
        int status;
        pid_t victim = bring_to_operation();
        for (long i = 0; i < step && !over; i++)
            over = one_step(victim);
        if (!over) {
            kill(victim, SIGKILL);
            waitpid(victim, &status, 0);
        }
        look(segment_fd);
    }
    return points;
}

/* -- rivals -------------------------------------------------------------------------------------------------------- */

typedef mpc_status (*rival_fn)(mpc_ctx *ctx, const mpc_key *key);

static mpc_status rival_delete(mpc_ctx *ctx, const mpc_key *key)
{
    return mpc_delete(ctx, key, MPC_SHARD_WAIT_NS);
}

/* These take the shard only if it is free. */
static mpc_status rival_set(mpc_ctx *ctx, const mpc_key *key)
{
    mpc_value value = value_of(target_number(), 2);
    return mpc_set(ctx, key, &value, 0);
}

static mpc_status rival_incr(mpc_ctx *ctx, const mpc_key *key)
{
    i64 sum;
    mpc_value fresh = {.created = 1, .flags = NUMBER};
    return mpc_incr(ctx, key, 1, NULL, &fresh, &sum, 0);
}

static mpc_status rival_insert(mpc_ctx *ctx, const mpc_key *key)
{
    (void)key;
    mpc_value value = value_of(20, 1);
    mpc_key other = key_number(ctx, 20);
    return mpc_set(ctx, &other, &value, 0);
}

/* What may be found when both are done, by what the rival and the operation said. */
static void judge(rival_fn rival, mpc_status said, int found)
{
    if (now->act == act_keys) {
        if (outcome != MPC_OK)
            complain("a key that stays was not seen", target_number(), outcome);
    } else if (rival == rival_delete) {
        bool may_begin_anew = (now->act == act_count || now->act == act_add) && outcome == MPC_OK && found == 1;
        if (found != -1 && !may_begin_anew)
            complain("what was deleted is back", target_number(), found);
    } else if (rival == rival_incr) {
        if (said != MPC_ABSENT && found != 1 + (said == MPC_OK))
            complain("a count was lost", target_number(), found);
    } else if (said == MPC_OK && found != 2) {
        complain("what was set was overwritten by what had not seen it", target_number(), found);
    }
}

/* Whether the operation was over before. */
static bool meet(rival_fn rival)
{
    int status;
    mpc_ctx ctx;
    pid_t victim = bring_to_operation();
    for (long i = 0; i < step; i++)
        if (one_step(victim))
            return true;
    mpc_open(&ctx, segment_fd, NULL);
    mpc_key key = key_number(&ctx, target_number());
    mpc_status said = rival(&ctx, &key);
    ptrace(PTRACE_CONT, victim, NULL, NULL);
    waitpid(victim, &status, 0);
    if (!WIFEXITED(status))
        complain("the operation did not end", -1, status);
    outcome = WEXITSTATUS(status);
    judge(rival, said, read_generation(&ctx, target_number()));
    check(&ctx);
    mpc_close(&ctx);
    return false;
}

static long meet_after_every(long stride)
{
    rival_fn rivals[] = {now->act == act_incr || now->act == act_count ? rival_incr : rival_set, rival_delete};
    if (now->act == act_keys)
        rivals[0] = rivals[1] = rival_insert;
    long points = 0;
    for (step = 1 + stride / 2; complaints < 10 && !meet(rivals[points % 2]); step += stride)
        points++;
    return points;
}

static void make_image(void)
{
    struct mpc_geometry geometry;
    memset(segment, 0, segment_size);
    mpc_plan(&geometry, segment_size, 1, 16, strncmp(now->name, "restart", 7) == 0 ? LOW_LIMIT : MPC_POSITION_LIMIT);
    mpc_format(segment, &geometry);
    mpc_ctx ctx;
    if (mpc_open(&ctx, segment_fd, NULL) != MPC_OK || mpc_register(&ctx) != MPC_OK)
        abort();
    now->prepare(&ctx);
    memcpy(before, segment, segment_size);
    for (int i = 0; i < KEYS; i++) {
        mpc_hit hit = {0};
        mpc_key key = key_number(&ctx, i);
        mpc_look_up(&ctx, shard_of(&ctx), &key, &hit);
        version_before[i] = hit.record.version;
        generation_before[i] = read_generation(&ctx, i);
    }
    memcpy(segment, before, segment_size); /* as if they had not been read */
    if (now->leaves_holder)
        memcpy(image, segment, segment_size); /* as it is while the holder holds */
    mpc_close(&ctx);
    if (!now->leaves_holder)
        memcpy(image, segment, segment_size);
}

/* What the operation did, by the shard's counters before and after. */
static void print_events(void)
{
    struct mpc_geometry geometry;
    mpc_verify(image, segment_size, &geometry);
    struct mpc_shard *was = (struct mpc_shard *)(image + geometry.shards_at);
    struct mpc_shard *is = (struct mpc_shard *)(segment + geometry.shards_at);
#define EVENT(name, counter) printf(" %s=%llu", name, (unsigned long long)(is->counter - was->counter))
    EVENT("small", evicted[MPC_SMALL]);
    EVENT("main", evicted[MPC_MAIN]);
    EVENT("promoted", promoted);
    EVENT("reinserted", reinserted);
    EVENT("ghosts", ghost_hits);
    EVENT("cleared", cleared);
    putchar('\n');
}

enum how { LOOK, KILL, MEET };

static long prove(const struct operation *operation, enum how how, long stride)
{
    u64 start = mpc_mono_ns();
    now = operation;
    step = 0;
    make_image();
    long points = how == LOOK   ? look_after_every_instruction()
                  : how == KILL ? kill_after_every(stride)
                                : meet_after_every(stride);
    printf("%-12s %6ld %s in %6ld instructions, %.1f s;", operation->name, points, how == MEET ? "rivals" : "deaths",
           step, (double)(mpc_mono_ns() - start) / 1e9);
    print_events();
    fflush(stdout);
    return points;
}

/* Rivals are for what depends on the value that is there; a scan changes nothing by which it could be seen to die. */
static bool is_for(const struct operation *operation, enum how how)
{
    void (*const met[])(mpc_ctx *) = {act_add, act_swap, act_incr, act_count, act_touch, act_keys};
    for (size_t i = 0; i < sizeof met / sizeof *met; i++)
        if (operation->act == met[i])
            return how == MEET || operation->act != act_keys;
    return how != MEET;
}

static bool is_wanted(const char *name, int count, char **names)
{
    bool all_others = true;
    for (int i = 0; i < count; i++) {
        bool without = names[i][0] == '^';
        if (strcmp(names[i] + without, name) == 0)
            return !without;
        all_others = all_others && without;
    }
    return all_others;
}

static u8 *map_new(int *fd)
{
    *fd = memfd_create("prove", MFD_CLOEXEC);
    if (*fd < 0 || ftruncate(*fd, (off_t)segment_size) != 0)
        return NULL;
    void *at = mmap(NULL, segment_size, PROT_READ | PROT_WRITE, MAP_SHARED, *fd, 0);
    return at == MAP_FAILED ? NULL : at;
}

int main(int argc, char **argv)
{
    int option;
    long stride = 1, points = 0;
    enum how how = LOOK;
    while ((option = getopt(argc, argv, "ak:r:")) != -1 && option != '?')
        if (option == 'a') {
            all = true;
        } else {
            how = option == 'k' ? KILL : MEET;
            stride = atol(optarg);
        }
    if (option != -1 || stride < 1)
        return fprintf(stderr, "usage: prove [-a] [-k STRIDE | -r STRIDE] [OPERATION... | ^OPERATION...]\n"), 2;
    segment_size = mpc_smallest(1);
    segment = map_new(&segment_fd);
    twin = map_new(&twin_fd);
    image = malloc(segment_size);
    before = malloc(segment_size);
    if (!segment || !twin || !image || !before)
        return perror("prove"), 2;
    for (size_t i = 0; i < sizeof operations / sizeof *operations; i++)
        if (is_for(&operations[i], how) && is_wanted(operations[i].name, argc - optind, argv + optind))
            points += prove(&operations[i], how, stride);
    printf("%ld %s, %d complaints\n", points, how == MEET ? "rivals" : "deaths", complaints);
    return complaints != 0;
}
