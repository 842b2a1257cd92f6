/* Huge pages: how a segment's file is mapped, and how it gets pages of 2 MiB. */
#ifndef MPC_HUGEPAGES_H
#define MPC_HUGEPAGES_H

#include "port.h"

void *mpc_map(int fd, u64 size);
bool mpc_make_large(int fd, u64 from, u64 to);

#endif
