/* Every way in which an operation of the engine can end: one list makes the enum, the texts and, in the
 * binding, the exceptions. */
#ifndef MPC_STATUS_H
#define MPC_STATUS_H

/* clang-format off */
/*    name            exception             what happened */
#define MPC_STATUSES(X)                                                                                            \
    X(OK,             NULL,                 "done")                                                                \
    X(ABSENT,         NULL,                 "no such key")                                                         \
    X(EXISTS,         NULL,                 "the key is there already")                                            \
    X(LAPPED,         NULL,                 "the record was evicted while it was being read")                      \
    X(AGAIN,          NULL,                 "nothing happened within this slice of waiting")                       \
    X(HELD,           NULL,                 "another holds the key")                                               \
    X(RELEASED,       NULL,                 "the holder let go")                                                   \
    X(UNSTORED,       NULL,                 "the holder let go and stored nothing")                                \
    X(REFUSED,        NULL,                 "the key was changed or invalidated after the fill had begun")         \
    X(DROPPED,        NULL,                 "the shard stayed busy; the value was not stored")                     \
    X(BUSY,           "ShardBusy",          "a process that is stopped or very slow holds the shard")              \
    X(OTHER_KIND,     "TypeError",          "the key's value is of another kind")                                  \
    X(OVERFLOW,       "OverflowError",      "the sum is no signed number of 64 bits")                              \
    X(DEADLOCK,       "DeadlockError",      "those who hold these keys wait for each other")                       \
    X(NOT_HELD,       "NotHeld",            "the key is not held under this token")                                \
    X(TOO_LARGE,      "ValueTooLarge",      "the value is larger than a record of this segment may be")            \
    X(KEY_TOO_LONG,   "KeyTooLong",         "a key may have 65535 bytes")                                          \
    X(RETIRED,        "SegmentRetired",     "the segment was unlinked; attach the new one")                        \
    X(DAMAGED,        "SegmentDamaged",     "the segment holds what the engine never writes")                      \
    X(NOT_A_SEGMENT,  "SegmentRefused",     "not an mpcache segment")                                              \
    X(OTHER_LAYOUT,   "SegmentRefused",     "made by another layout version of mpcache")                           \
    X(TRUNCATED,      "SegmentRefused",     "shorter than its header says")                                        \
    X(BAD_HEADER,     "SegmentRefused",     "the header does not agree with its checksum or with itself")          \
    X(TOO_SMALL,      "SegmentTooSmall",    "too small to hold the tables and one shard")                          \
    X(NO_SLOT,        "TooManyProcesses",   "every process slot of the segment is taken")                          \
    X(NO_NAMESPACE,   "SegmentError",       "every namespace of the segment is taken")                             \
    X(NAME_TOO_LONG,  "SegmentError",       "a namespace may have 63 bytes")                                       \
    X(NO_DESCRIPTOR,  "SegmentError",       "this process has no descriptor of the segment: it closed it; attach " \
                                            "after that, or give the segment a name")                              \
    X(SYSTEM,         "SegmentError",       "a system call failed")
/* clang-format on */

typedef enum {
#define MPC_AS_ENUM(name, exception, text) MPC_##name,
    MPC_STATUSES(MPC_AS_ENUM)
#undef MPC_AS_ENUM
} mpc_status;

const char *mpc_status_text(mpc_status status);

#endif
