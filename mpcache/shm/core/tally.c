/* Tallies: requests and creations, counted for each namespace over all processes.
 *
 *     request word of a process slot:  | kind and namespace:16 | count:48 |      hits, near hits and misses
 *     stripes of a namespace:          16 counters each                          these and all others
 *
 * Many processes read the same keys at once, and a counter that they share would cost each of them more than the hit.
 * So a process counts what it reads in words of its own slot.  The word is claimed once for a kind and a namespace,
 * and never given back: the slot's next owner, which claims the same, continues its count, and a sum over all slots
 * never falls.  A process that finds no free word counts in a stripe.  What is rarer goes to the stripes at once; there
 * are several, so that processes seldom meet on one. */
#include "tally.h"

static u64 mpc_word_tag(u16 namespace, enum mpc_tally_kind kind)
{
    return 1 + ((u64)kind << 8 | namespace % MPC_NAMESPACES);
}

_Static_assert(MPC_NAMESPACES <= 256, "a namespace has 8 bits in the tag of a request word");

/* Count in a stripe; any thread may.  Of a segment that was removed the stripes have no memory any more. */
void mpc_tally(mpc_ctx *ctx, u16 namespace, enum mpc_tally_kind kind, u64 n)
{
    if (mpc_retired(ctx))
        return;
    u32 slot = (u32)(mpc_load(&ctx->self->owner) & 0xffff);
    mpc_add_to(&mpc_stripe_at(ctx, namespace, slot)->tally[kind], n);
}

/* Return the word in which this process counts; claim it first if need be.  NULL: there is none. */
a64 *mpc_request_word(mpc_ctx *ctx, u16 namespace, enum mpc_tally_kind kind)
{
    u64 owner = mpc_load(&ctx->self->owner), tag = mpc_word_tag(namespace, kind);
    for (u32 i = 0; owner != 0 && i < MPC_REQUEST_WORDS; i++) {
        a64 *word = &mpc_slot_at(ctx, (u32)(owner & 0xffff))->requests[i];
        u64 seen = mpc_load(word);
        if ((seen == 0 && mpc_cas64(word, &seen, tag << MPC_WORD_COUNT_BITS)) || seen >> MPC_WORD_COUNT_BITS == tag)
            return word;
    }
    return NULL;
}

/* Count a value in a histogram: in the bucket of its highest bit. */
void mpc_observe(mpc_ctx *ctx, u16 namespace, enum mpc_histogram_kind kind, u64 value)
{
    u32 bucket = value ? 64 - (u32)__builtin_clzll(value) : 0;
    u32 last = MPC_HISTOGRAM_BUCKETS - 1;
    if (mpc_retired(ctx))
        return;
    mpc_add_to(&mpc_histogram_at(ctx, namespace, kind)->bucket[bucket < last ? bucket : last], 1);
}

/* -- reading ------------------------------------------------------------------------------------------------------- */

static u64 mpc_word_count(u64 word)
{
    return word & ((1ull << MPC_WORD_COUNT_BITS) - 1);
}

static void mpc_add_words(mpc_ctx *ctx, u16 namespace, u64 sums[MPC_TALLY_KINDS])
{
    for (u32 slot = 0; slot < ctx->geometry.slots; slot++)
        for (u32 i = 0; i < MPC_REQUEST_WORDS; i++) {
            u64 word = mpc_load(&mpc_slot_at(ctx, slot)->requests[i]);
            for (unsigned kind = 0; kind < MPC_WORD_KINDS; kind++)
                if (word >> MPC_WORD_COUNT_BITS == mpc_word_tag(namespace, kind))
                    sums[kind] += mpc_word_count(word);
        }
}

/* Sum what was ever counted in a namespace, whichever process did. */
void mpc_tallies_read(mpc_ctx *ctx, u16 namespace, u64 sums[MPC_TALLY_KINDS])
{
    memset(sums, 0, MPC_TALLY_KINDS * sizeof *sums);
    for (u32 stripe = 0; stripe < ctx->geometry.stripes; stripe++)
        for (unsigned kind = 0; kind < MPC_TALLY_KINDS; kind++)
            sums[kind] += mpc_load(&mpc_stripe_at(ctx, namespace, stripe)->tally[kind]);
    mpc_add_words(ctx, namespace, sums);
}

/* Sum what was ever counted in request words of a kind, in all namespaces. */
u64 mpc_words_sum(mpc_ctx *ctx, enum mpc_tally_kind kind)
{
    u64 sum = 0;
    for (u32 slot = 0; slot < ctx->geometry.slots; slot++)
        for (u32 i = 0; i < MPC_REQUEST_WORDS; i++) {
            u64 word = mpc_load(&mpc_slot_at(ctx, slot)->requests[i]), tag = word >> MPC_WORD_COUNT_BITS;
            sum += tag != 0 && (tag - 1) >> 8 == kind ? mpc_word_count(word) : 0;
        }
    return sum;
}
