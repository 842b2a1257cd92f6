/* Leases: acquiring, waiting for and releasing the hold of a key, and the guard of a fill. */
#ifndef MPC_LEASE_H
#define MPC_LEASE_H

#include "lease_table.h"
#include "status.h"

/* What a waiter remembers of the holder for which it waits. */
typedef struct {
    u64 owner, fence, since_ns;
    u64 cycle; /* the signature of the cycle that the last check found; 0: none */
    u32 entry, seq;
    bool dead, took_over;
} mpc_wait;

mpc_status mpc_lease_try(mpc_ctx *ctx, const mpc_key *key, mpc_hold *hold, mpc_wait *wait, u64 wait_ns);
mpc_status mpc_lease_wait(mpc_ctx *ctx, mpc_wait *wait, const mpc_hold *held, u32 count, u64 at_most_ns);
void mpc_lease_waited(mpc_ctx *ctx, const mpc_hold *held, u32 count);
mpc_status mpc_lease_release(mpc_ctx *ctx, const mpc_hold *hold, enum mpc_ending how, u64 wait_ns);
bool mpc_lease_held(mpc_ctx *ctx, const mpc_key *key, u64 *owner);
bool mpc_lease_mine(mpc_ctx *ctx, const mpc_hold *hold);
mpc_status mpc_lease_guard(mpc_ctx *ctx, const mpc_key *key, mpc_hold *guard, u64 wait_ns);
bool mpc_lease_void(mpc_ctx *ctx, const mpc_key *key);
bool mpc_lease_settle(mpc_ctx *ctx, const mpc_key *key, u64 wait_ns);
bool mpc_lease_fill_begin(mpc_ctx *ctx, const mpc_key *key, const mpc_hold *guard, u64 wait_ns, mpc_status *verdict);
void mpc_lease_fill_end(mpc_ctx *ctx, const mpc_hold *guard);
bool mpc_lease_voided(mpc_ctx *ctx, const mpc_hold *guard);

#endif
