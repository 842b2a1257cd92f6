/* The check of every invariant of a segment.
 *
 * It holds one shard's lock at a time, so that what it finds wrong is wrong and not under way.  It walks the log
 * from tail to head, then the index, and checks for each record that the index names whether the log has it. */
#include "check.h"

#include "attach.h"
#include "format.h"
#include "index.h"
#include "lease_table.h"
#include "retire.h"
#include "ring.h"
#include "wordlock.h"

#include <stdarg.h>
#include <stdio.h>

#define CHECK_WAIT_NS (MPC_NS_PER_S / 4) /* more than a set waits; a running owner is waited for a second longer */

static mpc_status mpc_report_broken(char *why, size_t room, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

static mpc_status mpc_report_broken(char *why, size_t room, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(why, room, format, arguments);
    va_end(arguments);
    return MPC_DAMAGED;
}

#define LL(n) ((unsigned long long)(n))

/* -- the log ------------------------------------------------------------------------------------------------------- */

static mpc_status mpc_check_record(const mpc_ctx *ctx, const struct mpc_log *log, u64 at, u64 *units, char *why,
                                   size_t room)
{
    struct mpc_record record;
    mpc_step(log->steps);
    if (!mpc_log_record(log, at, &record))
        return mpc_report_broken(
            why, room, "what lies at %llu is no record: position %llu, %u units, key of %u and value of %u bytes",
            LL(at), LL(record.position), record.units, record.klen, record.vlen);
    *units = record.units;
    if (record.flags & MPC_PAD)
        return MPC_OK;
    if (mpc_word_ring(record.version) == log->which && mpc_word_position(record.version) > at)
        return mpc_report_broken(why, room, "the record at %llu is of a later version, %llu", LL(at),
                                 LL(mpc_word_position(record.version)));
    u64 salt = (u64)record.namespace << 8 | record.kind;
    if (mpc_hash(ctx->seed, salt, mpc_log_at(log, at) + sizeof record, record.klen) != record.hash)
        return mpc_report_broken(why, room, "the key of the record at %llu does not have its hash", LL(at));
    return MPC_OK;
}

static mpc_status mpc_check_log(const mpc_ctx *ctx, struct mpc_shard *shard, unsigned ring, char *why, size_t room)
{
    struct mpc_log log;
    mpc_status status = mpc_log_open(ctx, shard, ring, &log);
    if (status != MPC_OK)
        return mpc_report_broken(why, room, "tail %llu and head %llu do not lie one capacity apart", LL(log.tail),
                                 LL(log.head));
    if (log.tail > log.head)
        return MPC_OK; /* a restart that its writer did not survive: the next writer finishes it */
    for (u64 at = log.tail, units = 0; at < log.head && status == MPC_OK; at += units)
        status = mpc_check_record(ctx, &log, at, &units, why, room);
    return status;
}

/* -- the index ----------------------------------------------------------------------------------------------------- */

static mpc_status mpc_check_slot(mpc_ctx *ctx, struct mpc_shard *shard, u64 i, u64 word, char *why, size_t room)
{
    struct mpc_record record;
    const u8 *at;
    mpc_hit first;
    if (!mpc_record_at(ctx, shard, word, &record, &at))
        return mpc_report_broken(why, room, "slot %llu names position %llu, where no record is", LL(i),
                                 LL(mpc_word_position(word)));
    u64 named;
    if (mpc_slot_naming(ctx, shard, record.hash, mpc_word(0, 0, mpc_word_ring(word), record.position), &named) == NULL)
        return mpc_report_broken(why, room, "slot %llu lies in another key's bucket", LL(i));
    mpc_key key = {at + sizeof record, record.klen, record.namespace, record.kind, record.hash};
    if (mpc_look_up(ctx, shard, &key, &first) == MPC_OK && !mpc_same_place(first.word, word))
        return mpc_report_broken(why, room, "the key of slot %llu stands in two slots", LL(i));
    return MPC_OK;
}

/* A slot may be emptied without the lock, so a slot that looks wrong is read again. */
static mpc_status mpc_check_index(mpc_ctx *ctx, struct mpc_shard *shard, char *why, size_t room)
{
    a64 *slots = (a64 *)((u8 *)shard + ctx->geometry.index_at);
    for (u64 i = 0; i < (u64)ctx->geometry.index_buckets * MPC_SLOTS_PER_BUCKET; i++) {
        u64 word = mpc_load_acquire(&slots[i]);
        mpc_step(mpc_steps_of(ctx));
        if (mpc_is_stale_slot(shard, word))
            continue;
        mpc_status status = mpc_check_slot(ctx, shard, i, word, why, room);
        u64 now = mpc_load_acquire(&slots[i]);
        if (status != MPC_OK && mpc_same_place(now, word))
            return status;
    }
    return MPC_OK;
}

static mpc_status mpc_check_shard(mpc_ctx *ctx, u32 which, char *why, size_t room)
{
    static const char *const places[] = {"small ring", "main ring", "index"};
    char what[160] = "";
    struct mpc_shard *shard = mpc_shard_at(ctx, which);
    unsigned place = 0;
    mpc_status status = mpc_lock_shard(ctx, shard, CHECK_WAIT_NS);
    if (status != MPC_OK)
        return status;
    for (; status == MPC_OK && place < MPC_RINGS; place++)
        status = mpc_check_log(ctx, shard, place, what, sizeof what);
    if (status != MPC_OK)
        place--;
    else
        status = mpc_check_index(ctx, shard, what, sizeof what);
    mpc_unlock_shard(ctx, shard);
    if (status != MPC_OK)
        snprintf(why, room, "shard %u, %s: %s", which, places[place], what);
    return status;
}

/* -- the rest ------------------------------------------------------------------------------------------------------ */

static mpc_status mpc_check_leases(mpc_ctx *ctx, char *why, size_t room)
{
    u64 last = mpc_load_acquire(&ctx->header->fence);
    struct mpc_lease_bucket *buckets = (struct mpc_lease_bucket *)(ctx->base + ctx->geometry.leases_at);
    for (u32 i = 0; i < ctx->geometry.lease_buckets * MPC_LEASES_PER_BUCKET; i++) {
        struct mpc_lease *lease = &buckets[i / MPC_LEASES_PER_BUCKET].lease[i % MPC_LEASES_PER_BUCKET];
        u64 fence = mpc_load_acquire(&lease->fence);
        if (fence > last && fence > mpc_load_acquire(&ctx->header->fence))
            return mpc_report_broken(why, room, "lease %u has fence %llu, and the last that was given out is %llu", i,
                                     LL(fence), LL(last));
    }
    return MPC_OK;
}

static mpc_status mpc_check_namespaces(mpc_ctx *ctx, char *why, size_t room)
{
    for (u16 i = 0; i < MPC_NAMESPACES; i++) {
        struct mpc_namespace *namespace = mpc_namespace_at(ctx, i);
        u64 hard = mpc_load(&namespace->hard_at), soft = mpc_load(&namespace->soft_at),
            clear = mpc_load(&namespace->clear_at);
        u64 epoch = mpc_load_acquire(&ctx->header->clock);
        if (hard > epoch || soft > epoch || clear > epoch || namespace->name_bytes > MPC_NAME_BYTES)
            return mpc_report_broken(why, room, "namespace %u was invalidated in an epoch that has not come", i);
    }
    return MPC_OK;
}

/* Check everything.  MPC_DAMAGED: `why` receives the first broken invariant; MPC_BUSY: a shard stays locked. */
mpc_status mpc_check(mpc_ctx *ctx, char *why, size_t room)
{
    struct mpc_geometry now;
    *why = 0;
    mpc_status status = mpc_enter(ctx);
    if (status != MPC_OK)
        return status;
    if (mpc_verify(ctx->base, ctx->geometry.size, &now) != MPC_OK)
        return mpc_report_broken(why, room, "the header does not agree with its checksum");
    for (u32 i = 0; i < ctx->geometry.shards && status == MPC_OK; i++)
        status = mpc_check_shard(ctx, i, why, room);
    if (status == MPC_OK)
        status = mpc_check_leases(ctx, why, room);
    return status == MPC_OK ? mpc_check_namespaces(ctx, why, room) : status;
}
