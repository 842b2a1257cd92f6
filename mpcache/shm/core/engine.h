/* The top layer of the core: all that the binding may use.
 *
 * The layers, from the lowest up.  A file includes its own header and headers of layers below, never one above
 * (tests/test_house.py):
 *
 *     port | status | layout                the machine; how an operation can end; the bytes of the segment
 *     hugepages | procfs                    mapping a file; asking /proc
 *     context | hash | format               a process's view of a segment; keys; the segment's header
 *     liveness < wordlock < lease_table     is a process dead?  locks that outlive their owner; entries of leases
 *     registry < retire < attach            this process's slot; removal; the begin of every operation
 *     namespace | lease                     epochs; holds of keys, and guards of fills
 *     tally | functions                     what regions and decorated functions count
 *     record < index, ring < ghost < evict  where records lie, are found, are written, and which of them stay
 *     store < rmw                           get, set, fill, delete; add, compare-and-set, incr, touch
 *     check | stats                         the whole segment
 *
 * Suffix _locked: the caller has the word lock (the shard's, or of a lease the bucket's).  Lock order: one shard, then
 * one lease bucket; a bucket's lock is a leaf.  No function of these headers returns with a lock that it took, but
 * mpc_lock(), mpc_lock_nested(), mpc_take_shard(), mpc_lock_shard() and mpc_lease_fill_begin(). */
#ifndef MPC_ENGINE_H
#define MPC_ENGINE_H

#include "attach.h"
#include "check.h"
#include "evict.h"
#include "format.h"
#include "functions.h"
#include "hugepages.h"
#include "lease.h"
#include "liveness.h"
#include "namespace.h"
#include "retire.h"
#include "rmw.h"
#include "stats.h"
#include "store.h"
#include "tally.h"
#include "wordlock.h"

#endif
