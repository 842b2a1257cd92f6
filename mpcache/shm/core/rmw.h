/* Read-modify-write: add, compare-and-set, incr and touch, each atomic. */
#ifndef MPC_RMW_H
#define MPC_RMW_H

#include "record.h"
#include "status.h"

mpc_status mpc_add_new(mpc_ctx *ctx, const mpc_key *key, const mpc_value *value, u64 wait_ns);
mpc_status mpc_compare_and_set(mpc_ctx *ctx, const mpc_key *key, u64 version, const mpc_value *value, u64 wait_ns);
mpc_status mpc_incr(mpc_ctx *ctx, const mpc_key *key, i64 delta, const i64 *initial, const mpc_value *fresh, i64 *sum,
                    u64 wait_ns);
mpc_status mpc_touch(mpc_ctx *ctx, const mpc_key *key, i64 expires, u8 but, u64 wait_ns);

#endif
