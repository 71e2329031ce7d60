/*
 * walagent/pg/page.h - a relation's page: its LSN, and the checksum that PostgreSQL keeps in it.
 *
 * A page is new when its header was never filled in: such a page has no checksum and must be all
 * zeros. Sizes are powers of two from 1024 to 32768 bytes. Source: PostgreSQL
 * src/include/storage/bufpage.h and the description of its checksum in checksum_impl.h.
 */
#ifndef WALAGENT_PG_PAGE_H
#define WALAGENT_PG_PAGE_H

#include "walagent/pg/lsn.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef enum wa_page_state {
    WA_PAGE_VALID,   /* the checksum matches, or the page is new and all zeros */
    WA_PAGE_CHANGED, /* it doesn't, but the page was written at or after `since`: WAL mends it */
    WA_PAGE_DAMAGED
} wa_page_state;

/* The checksum of a page as block `block` of its relation: never 0. */
uint16_t wa_page_checksum(const void *page, size_t size, uint32_t block);
wa_lsn wa_page_lsn(const void *page);
wa_page_state wa_page_check(const void *page, size_t size, uint32_t block, wa_lsn since);

#endif
