/* The check of every invariant of a segment. */
#ifndef MPC_CHECK_H
#define MPC_CHECK_H

#include "context.h"
#include "status.h"

mpc_status mpc_check(mpc_ctx *ctx, char *why, size_t room);

#endif
