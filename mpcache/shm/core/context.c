/* One process's view of one segment: mapped, verified, and later let go.
 *
 *     mpc_open(fd):  map | verify a private copy of the header | wipe-on-fork page | own descriptor | fork list */
#include "engine.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

static mpc_status map_segment(mpc_ctx *ctx, int fd)
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
    return MPC_OK;
}

static bool make_self(mpc_ctx *ctx)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    void *self = mmap(NULL, page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (self == MAP_FAILED)
        return false;
    ctx->self = self;
    return madvise(self, page, MADV_WIPEONFORK) == 0;
}

/* The caller's descriptor may be closed, and the liveness lock belongs to the description behind it. */
static bool own_descriptor(mpc_ctx *ctx, int fd)
{
    ctx->shared_fd = mpc_duplicate(fd);
    return ctx->shared_fd >= 0 && mpc_own_description(ctx);
}

/* `path` is the segment's name in the file system, NULL for one that has none.  On failure nothing is left; errno is the system's word where the status is MPC_SYSTEM. */
mpc_status mpc_open(mpc_ctx *ctx, int fd, const char *path)
{
    memset(ctx, 0, sizeof *ctx);
    ctx->fd = ctx->shared_fd = ctx->fd_for_child = -1;
    mpc_status status = map_segment(ctx, fd);
    if (status == MPC_OK && (!make_self(ctx) || (path && !(ctx->path = strdup(path))) || !own_descriptor(ctx, fd)))
        status = MPC_SYSTEM;
    if (status != MPC_OK) {
        int saved = errno;
        mpc_close(ctx);
        errno = saved;
        return status;
    }
    mpc_store(&ctx->looked_ns, mpc_mono_coarse_ns());
    mpc_join_fork_list(ctx);
    return MPC_OK;
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
    ctx->fd = -1;
}

/* What nobody tells us, asked at most once in MPC_LOOK_NS: whether the program has closed our descriptor, and whether
 * somebody removed the file by hand, which leaves no word in the header. */
mpc_status mpc_look(mpc_ctx *ctx)
{
    u64 now = mpc_mono_coarse_ns();
    if (now - mpc_load(&ctx->looked_ns) < MPC_LOOK_NS)
        return MPC_OK;
    mpc_store(&ctx->looked_ns, now);
    struct stat st;
    mpc_status status = mpc_is_our_inode(ctx, ctx->fd) ? MPC_OK : mpc_register(ctx);
    if (status != MPC_OK || ctx->path == NULL || !mpc_is_our_inode(ctx, ctx->fd) || fstat(ctx->fd, &st) != 0 ||
        st.st_nlink > 0)
        return status;
    mpc_retire(ctx);
    return MPC_RETIRED;
}
