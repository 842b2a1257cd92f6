/* The log of one ring: how records are appended to it, moved and passed. */
#ifndef MPC_RING_H
#define MPC_RING_H

#include "record.h"
#include "status.h"

/* A writer's own view of one ring, judged when it was opened.  Under the shard's lock only this writer moves it. */
struct mpc_log {
    struct mpc_ring *ring;
    u8 *base;
    u64 capacity, tail, head; /* in units */
    u64 place; /* head % capacity: a division takes longer than writing a cache line */
    a64 *steps; /* of this process, and the shard's: both change with the work, for processes that wait for the shard */
    a32 *moves;
    unsigned which;
    bool over; /* its positions come near their limit, or a restart was not finished */
};

mpc_status mpc_log_open(const mpc_ctx *ctx, struct mpc_shard *shard, unsigned ring, struct mpc_log *log);
void mpc_log_restart_locked(const mpc_ctx *ctx, struct mpc_shard *shard, struct mpc_log *log);
u8 *mpc_log_at(const struct mpc_log *log, u64 position);
u64 mpc_log_free(const struct mpc_log *log);
u64 mpc_log_need(const struct mpc_log *log, u64 units);
bool mpc_log_record(const struct mpc_log *log, u64 position, struct mpc_record *record);
u64 mpc_log_append_locked(struct mpc_log *log, const mpc_key *key, const mpc_value *value, bool guest);
void mpc_log_copy_locked(struct mpc_log *log, const struct mpc_log *from, const struct mpc_record *record);
void mpc_log_pass_locked(struct mpc_log *log, u64 units);

#endif
