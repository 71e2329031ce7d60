/*
 * incremental_internal.h - what chain.c finds for incremental.c: the versions of one file.
 */
#ifndef WALAGENT_INCREMENTAL_INTERNAL_H
#define WALAGENT_INCREMENTAL_INTERNAL_H

#include "restore_internal.h"

typedef struct wa_chain_source {
    bool incremental;
    wa_unit_file file; /* path is owned by whoever made the source */
    wa_pack *pack;
    wa_frames *frames;
} wa_chain_source;

/* sources: the newest whole file (if there is one) first, the last backup's incremental file last.
 * Mode and time are taken from `as`. */
wa_status wa_incremental_build(const char *path, const wa_chain_source *sources, size_t count,
                               const wa_unit_file *as, uint64_t *ret_size, uint32_t *ret_crc,
                               wa_error *err) WA_MUST_CHECK;

#endif
