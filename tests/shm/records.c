/* What layout 3 added to records, rings, leases and tables, each by itself, in a segment of one shard.
 *
 *     records       exit status: how many checks failed; a line for each */
#include "engine.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define SIZE (6u << 20)

static mpc_ctx ctx, other;
static int wrong;

void mpc_point(void)
{
}

static void check(bool right, const char *what)
{
    printf("%s: %s\n", right ? "right" : "WRONG", what);
    wrong += !right;
}

static void begin(mpc_ctx *which, int fd)
{
    if (mpc_open(which, fd, NULL) != MPC_OK || mpc_register(which) != MPC_OK)
        abort();
}

static void make_segment(u32 shards, u64 limit)
{
    struct mpc_geometry geometry;
    int fd = memfd_create("records", MFD_CLOEXEC);
    if (fd < 0 || ftruncate(fd, SIZE) != 0 || mpc_plan(&geometry, SIZE, shards, 8, limit) != MPC_OK)
        abort();
    u8 *segment = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (segment == MAP_FAILED || mpc_format(segment, &geometry) != MPC_OK)
        abort();
    munmap(segment, SIZE);
    begin(&ctx, fd);
    begin(&other, fd);
}

static void end_segment(void)
{
    mpc_close(&other);
    mpc_close(&ctx);
}

static mpc_key key_of(const char *name)
{
    mpc_key key;
    mpc_key_init(&ctx, &key, 0, 0, name, (u32)strlen(name));
    return key;
}

static bool is_sound(void)
{
    char why[256];
    return mpc_check(&ctx, why, sizeof why) == MPC_OK || (puts(why), false);
}

/* -- records ------------------------------------------------------------------------------------------------------- */

static void check_took(void)
{
    bool near = true, ordered = true;
    u64 before = 0;
    for (u64 ns = 1000; ns < 100000ull * MPC_NS_PER_S; ns += ns / 97 + 1) {
        u64 told = mpc_ns_of_took(mpc_took_of_ns(ns));
        near &= told <= ns && ns - told <= ns / 64 + 1000;
        ordered &= told >= before;
        before = told;
    }
    check(near, "a creation's time is told to 1.6 % and a microsecond");
    check(ordered, "longer creations are not told as shorter ones");
    check(mpc_took_of_ns(UINT64_MAX) == MPC_TOOK_MOST, "the longest time fits its bits");
}

static const u64 tags[MPC_MAX_TAGS] = {11, 22, 33, 44, 55, 66, 77, 88, 99, 110, 121, 132, 143, 154, 165};

/* Whether the key has this value with the first `n` tags, and was created in as many microseconds. */
static bool has(const mpc_key *key, const void *bytes, size_t len, u32 n, u64 took)
{
    mpc_hit hit;
    char copy[4096];
    if (mpc_find(&ctx, key, &hit) != MPC_OK || hit.record.vlen != len || mpc_copy(&ctx, &hit, copy) != MPC_OK)
        return false;
    return memcmp(copy, bytes, len) == 0 && mpc_tags_of(hit.record.more) == n &&
           memcmp(hit.value - n * sizeof *tags, tags, n * sizeof *tags) == 0 &&
           mpc_ns_of_took(hit.record.more >> MPC_TOOK_SHIFT) == took * 1000;
}

static unsigned ring_of(const mpc_key *key)
{
    mpc_hit hit;
    return mpc_find(&ctx, key, &hit) == MPC_OK ? mpc_word_ring(hit.word) : MPC_RINGS;
}

/* Store other keys until this one, which was read, has left the small ring. */
static void promote(const mpc_key *key)
{
    static const char filler[1000];
    for (int i = 0; i < 10000 && ring_of(key) == MPC_SMALL; i++) {
        char name[16];
        mpc_key next;
        snprintf(name, sizeof name, "filler %d", i);
        mpc_key_init(&ctx, &next, 0, 0, name, (u32)strlen(name));
        mpc_set(&ctx, &next, &(mpc_value){.bytes = filler, .len = sizeof filler, .created = 1}, MPC_SHARD_WAIT_NS);
    }
}

static void check_tags(u8 n)
{
    char what[64], name[16];
    snprintf(name, sizeof name, "tagged %d", n);
    mpc_key key = key_of(name);
    mpc_value value = {
        .bytes = "a value", .len = 7, .created = 1, .tags = tags, .n_tags = n, .took = mpc_took_of_ns(50000)};
    bool right = mpc_set(&ctx, &key, &value, MPC_SHARD_WAIT_NS) == MPC_OK && has(&key, "a value", 7, n, 50);
    right &= mpc_touch(&ctx, &key, mpc_wall_ns() * 2 & ~1ll, 0xff, MPC_SHARD_WAIT_NS) == MPC_OK &&
             has(&key, "a value", 7, n, 50);
    promote(&key);
    right &= ring_of(&key) == MPC_MAIN && has(&key, "a value", 7, n, 50);
    snprintf(what, sizeof what, "%d tags stay with a value that is touched and moved", n);
    check(right, what);
}

static void check_tags_of_a_number(void)
{
    mpc_key key = key_of("number");
    i64 one = 1, sum = 0;
    mpc_value value = {.bytes = &one, .len = sizeof one, .created = 1, .tags = tags, .n_tags = 3, .flags = 4};
    mpc_set(&ctx, &key, &value, MPC_SHARD_WAIT_NS);
    mpc_value fresh = {.created = 2, .flags = 4};
    check(mpc_incr(&ctx, &key, 41, NULL, &fresh, &sum, MPC_SHARD_WAIT_NS) == MPC_OK && sum == 42 &&
              has(&key, &sum, sizeof sum, 3, 0),
          "a number that is added to keeps its tags");
}

static mpc_status store_until(const char *name, i64 end)
{
    mpc_key key = key_of(name);
    return mpc_set(&ctx, &key, &(mpc_value){.bytes = "v", .len = 1, .created = 1, .expires = end}, MPC_SHARD_WAIT_NS);
}

static void check_soft_end(void)
{
    mpc_hit hit;
    mpc_key soft = key_of("soft"), hard = key_of("hard");
    store_until("soft", 1001);
    store_until("hard", 1000);
    check(mpc_find(&ctx, &hard, &hit) == MPC_ABSENT, "a value is gone after a hard end");
    check(mpc_find(&ctx, &soft, &hit) == MPC_OK && hit.record.expires == 1001, "and stays after a soft one");
    mpc_value value = {.bytes = "w", .len = 1, .created = 1};
    check(mpc_add_new(&ctx, &soft, &value, MPC_SHARD_WAIT_NS) == MPC_EXISTS, "add() finds it");
    check(mpc_touch(&ctx, &soft, 0, 0xff, MPC_SHARD_WAIT_NS) == MPC_OTHER_KIND, "touch() leaves it to its caller");
    promote(&soft);
    check(mpc_find(&ctx, &soft, &hit) == MPC_OK && hit.record.expires == 1001, "and moves keep its end");
}

static void check_restarts(void)
{
    static const char bytes[2000];
    struct mpc_shard *shard = mpc_shard_at(&ctx, 0);
    u64 before = mpc_load(&shard->cleared);
    for (int i = 0; mpc_load(&shard->cleared) == before && i < 1000000; i++) {
        mpc_key key;
        mpc_key_init(&ctx, &key, 0, 0, &i, sizeof i);
        mpc_set(&ctx, &key, &(mpc_value){.bytes = bytes, .len = sizeof bytes, .created = 1}, MPC_SHARD_WAIT_NS);
    }
    u64 restarts = mpc_load(&shard->ring[MPC_SMALL].restarts) + mpc_load(&shard->ring[MPC_MAIN].restarts);
    check(restarts == mpc_load(&shard->cleared) && restarts > before, "each restart of a ring is counted beside it");
}

/* -- leases -------------------------------------------------------------------------------------------------------- */

static void check_ending(enum mpc_ending how, mpc_status told, const char *what)
{
    mpc_key key = key_of("leased");
    mpc_hold hold, none;
    mpc_wait first = {0}, wait = {0};
    bool right = mpc_lease_try(&ctx, &key, &hold, &first, MPC_SHARD_WAIT_NS) == MPC_OK &&
                 mpc_lease_try(&other, &key, &none, &wait, MPC_SHARD_WAIT_NS) == MPC_HELD &&
                 mpc_lease_release(&ctx, &hold, how, MPC_SHARD_WAIT_NS) == MPC_OK &&
                 mpc_lease_wait(&other, &wait, NULL, 0, 0) == told;
    if (how != MPC_ENDED_STORED)
        right &= mpc_load(&mpc_lease_at(&ctx, hold.entry)->ended) == (hold.fence << 2 | how);
    check(right, what);
}

/* -- tables -------------------------------------------------------------------------------------------------------- */

static void check_words(void)
{
    u32 claimed = 0;
    u64 sums[MPC_TALLY_KINDS];
    for (u16 namespace = 1; namespace <= MPC_REQUEST_WORDS; namespace++) {
        a64 *word = mpc_request_word(&ctx, namespace, MPC_TALLY_MISSES);
        claimed += word != NULL && word == mpc_request_word(&ctx, namespace, MPC_TALLY_MISSES);
        if (word)
            mpc_count_in_word(word, namespace);
        mpc_tally(&other, namespace, MPC_TALLY_MISSES, 1000);
    }
    check(claimed == MPC_REQUEST_WORDS, "each word of a slot is claimed once");
    check(mpc_request_word(&ctx, 200, MPC_TALLY_MISSES) == NULL, "and then there is none");
    check(mpc_request_word(&other, 200, MPC_TALLY_MISSES) != NULL, "in this slot");
    mpc_tallies_read(&ctx, 7, sums);
    check(sums[MPC_TALLY_MISSES] == 1007 && sums[MPC_TALLY_HITS] == 0, "words and stripes add up");
    check(mpc_words_sum(&ctx, MPC_TALLY_MISSES) == MPC_REQUEST_WORDS * (MPC_REQUEST_WORDS + 1) / 2,
          "and words of all namespaces");
}

static void check_next_owner(void)
{
    u64 sums[MPC_TALLY_KINDS], slot = mpc_load(&ctx.self->owner) & 0xffff;
    mpc_unregister(&ctx);
    mpc_register(&ctx);
    a64 *word = mpc_request_word(&ctx, 7, MPC_TALLY_MISSES);
    check((mpc_load(&ctx.self->owner) & 0xffff) == slot && word != NULL, "the next owner of a slot finds its word");
    mpc_count_in_word(word, 1);
    mpc_tallies_read(&ctx, 7, sums);
    check(sums[MPC_TALLY_MISSES] == 1008, "and goes on counting in it");
}

static void check_histograms(void)
{
    static const struct {
        u64 value;
        u32 bucket;
    } cases[] = {{0, 0}, {1, 1}, {2, 2}, {3, 2}, {4, 3}, {1023, 10}, {1024, 11}, {1ull << 30, 31}, {UINT64_MAX, 31}};
    bool right = true;
    for (u32 i = 0; i < sizeof cases / sizeof *cases; i++) {
        a64 *bucket = &mpc_histogram_at(&ctx, 3, MPC_WAITING)->bucket[cases[i].bucket];
        u64 before = mpc_load(bucket);
        mpc_observe(&ctx, 3, MPC_WAITING, cases[i].value);
        right &= mpc_load(bucket) == before + 1;
    }
    check(right, "each number is counted in the bucket of its highest bit");
}

static void check_functions(void)
{
    bool rows = true, again = true;
    for (u32 i = 0; i < MPC_FUNCTIONS + 40; i++) {
        char name[200];
        int len = snprintf(name, sizeof name, "%*d", i % 2 ? 5 : 150, (int)i);
        u32 row = mpc_function_open(i % 3 ? &ctx : &other, 2, name, (size_t)len);
        rows &= row == (i < MPC_FUNCTIONS ? i : MPC_FUNCTIONS);
        again &= mpc_function_open(&ctx, 2, name, (size_t)len) == row;
    }
    check(rows, "each function has a row of its own, and those beyond the last one share one");
    check(again, "which is found again");
    char name[MPC_FUNCTION_NAME_BYTES];
    u16 namespace;
    check(mpc_function_name(&ctx, 4, &namespace, name) == MPC_FUNCTION_NAME_BYTES && namespace == 2, "names are cut");
    check(mpc_function_open(&ctx, 1, "    1", 5) == MPC_FUNCTIONS, "one name in two namespaces is two functions");
}

int main(void)
{
    make_segment(1, MPC_POSITION_LIMIT);
    check_took();
    check_tags(0);
    check_tags(1);
    check_tags(MPC_MAX_TAGS);
    check_tags_of_a_number();
    check_soft_end();
    check_ending(MPC_ENDED_STORED, MPC_RELEASED, "a hold that stored ends as released");
    check_ending(MPC_ENDED_UNSTORED, MPC_UNSTORED, "one that stored nothing as unstored");
    check_ending(MPC_ENDED_FAILED, MPC_UNSTORED, "one that failed as unstored, too, and the entry knows more");
    check_words();
    check_next_owner();
    check_histograms();
    check_functions();
    check(is_sound(), "the segment is sound");
    end_segment();
    make_segment(1, 9 * (u64)(SIZE / MPC_UNIT));
    check_restarts();
    check(is_sound(), "also after restarts");
    end_segment();
    return wrong;
}
