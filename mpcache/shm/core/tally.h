/* Tallies: requests and creations, counted for each namespace over all processes. */
#ifndef MPC_TALLY_H
#define MPC_TALLY_H

#include "context.h"

/* The kinds that the request words of a process count. */
#define MPC_WORD_KINDS 3u
#define MPC_WORD_COUNT_BITS 48

void mpc_tally(mpc_ctx *ctx, u16 namespace, enum mpc_tally_kind kind, u64 n);
void mpc_observe(mpc_ctx *ctx, u16 namespace, enum mpc_histogram_kind kind, u64 value);
a64 *mpc_request_word(mpc_ctx *ctx, u16 namespace, enum mpc_tally_kind kind);
void mpc_tallies_read(mpc_ctx *ctx, u16 namespace, u64 sums[MPC_TALLY_KINDS]);
u64 mpc_words_sum(mpc_ctx *ctx, enum mpc_tally_kind kind);

/* Count in a request word.  The caller sees to it that no other thread of this process is in here, and that its
 * process owns the word's slot: so no addition needs to be atomic, which would take a twentieth of a hit. */
static inline void mpc_count_in_word(a64 *word, u64 n)
{
    mpc_store(word, mpc_load(word) + n);
}

#endif
