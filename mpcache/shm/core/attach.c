/* Attaching: one process maps a segment, verifies it, and later closes it.
 *
 *     mpc_open(fd):  map | verify a copy of the header | wipe-on-fork page | own description, and the fork list */
#include "attach.h"

#include "format.h"
#include "hugepages.h"
#include "liveness.h"
#include "retire.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

static mpc_status mpc_map_segment(mpc_ctx *ctx, int fd)
{
    struct stat st;
    if (fstat(fd, &st) != 0)
        return MPC_SYSTEM;
    if ((u64)st.st_size < sizeof(struct mpc_header))
        return MPC_TRUNCATED;
    ctx->dev = (u64)st.st_dev;
    ctx->ino = (u64)st.st_ino;
    void *base = mpc_map(fd, (u64)st.st_size);
    if (!base)
        return MPC_SYSTEM;
    mpc_status status = mpc_verify(base, (u64)st.st_size, &ctx->geometry);
    if (status == MPC_OK && (u64)st.st_size != ctx->geometry.size)
        status = MPC_BAD_HEADER;
    if (status != MPC_OK) {
        munmap(base, (size_t)st.st_size);
        return status;
    }
    ctx->base = base;
    ctx->header = base;
    memcpy(ctx->seed, ctx->header->seed, sizeof ctx->seed);
    ctx->birth = ctx->header->birth[0];
    return MPC_OK;
}

static bool mpc_make_self(mpc_ctx *ctx)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    void *self = mmap(NULL, page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (self == MAP_FAILED)
        return false;
    ctx->self = self;
    return madvise(self, page, MADV_WIPEONFORK) == 0;
}

#define MOST_HITS 15            /* of hits between two checks; */
#define HITS_NS (50 * MPC_NS_PER_MS) /* or as many hits as came within this time, if that is less */
#define MARK_MASK 0xffffffffffull /* file offsets that every file system allows */

/* Choose a random file offset that no other description of the segment has (registry.c). */
static bool mpc_choose_mark(mpc_ctx *ctx)
{
    if (!mpc_random(&ctx->mark, sizeof ctx->mark))
        return false;
    ctx->mark = (ctx->mark & MARK_MASK) | 1;
    return true;
}

/* Attach the segment behind `fd`. `path` is its name in the file system; NULL: it has none.  The descriptor stays
 * the caller's, and may be closed: the liveness lock needs an open file description of its own.  On failure nothing
 * is left; where the status is MPC_SYSTEM, errno is that of the system call. */
mpc_status mpc_open(mpc_ctx *ctx, int fd, const char *path)
{
    memset(ctx, 0, sizeof *ctx);
    ctx->fd = ctx->shared_fd = ctx->fd_for_child = -1;
    mpc_status status = mpc_map_segment(ctx, fd);
    mpc_store(&ctx->checked_ns, mpc_mono_coarse_ns());
    if (status == MPC_OK && (!mpc_make_self(ctx) || !mpc_choose_mark(ctx) || (path && !(ctx->path = strdup(path))) ||
                             !mpc_join_fork_list(ctx, fd)))
        status = MPC_SYSTEM;
    if (status != MPC_OK) {
        int saved = errno;
        mpc_close(ctx);
        errno = saved;
    }
    return status;
}

void mpc_close(mpc_ctx *ctx)
{
    mpc_leave_fork_list(ctx);
    if (ctx->base && ctx->self && ctx->fd >= 0)
        mpc_unregister(ctx);
    mpc_unpin(ctx);
    mpc_close_descriptors(ctx);
    if (ctx->self)
        munmap(ctx->self, (size_t)sysconf(_SC_PAGESIZE));
    if (ctx->base)
        munmap(ctx->base, ctx->geometry.size);
    free(ctx->path);
    ctx->path = NULL;
    ctx->base = NULL;
    ctx->self = NULL;
}

/* Check what leaves no word in the header, at most once in MPC_REVALIDATE_NS: whether the program has closed this
 * context's descriptor, and whether the file was removed by hand. */
mpc_status mpc_revalidate(mpc_ctx *ctx)
{
    u64 now = mpc_mono_coarse_ns();
    if (now - mpc_load(&ctx->checked_ns) < MPC_REVALIDATE_NS)
        return MPC_OK;
    mpc_store(&ctx->checked_ns, now);
    struct stat st;
    mpc_status status = mpc_is_our_description(ctx, ctx->fd) ? MPC_OK : mpc_register(ctx);
    if (status != MPC_OK || ctx->path == NULL || !mpc_is_our_description(ctx, ctx->fd) || fstat(ctx->fd, &st) != 0 ||
        st.st_nlink > 0)
        return status;
    mpc_retire(ctx);
    return MPC_RETIRED;
}

/* A process that only has hits must also notice that the file was removed.  How many of its hits may pass without a
 * read of the clock follows from how fast the last ones came: a process that reads 20 times a second or less checks
 * at each hit. */
mpc_status mpc_revalidate_after_hits(mpc_ctx *ctx)
{
    u64 now = mpc_mono_coarse_ns(), passed = now - mpc_load(&ctx->hits_since_ns);
    u64 hits = (mpc_load(&ctx->hits_allowed) + 1ull) * HITS_NS / (passed + 1);
    u32 allowed = hits < MOST_HITS ? (u32)hits : MOST_HITS;
    mpc_store(&ctx->hits_since_ns, now);
    mpc_store(&ctx->hits_allowed, allowed);
    mpc_store(&ctx->hits_left, allowed);
    return mpc_revalidate(ctx);
}
