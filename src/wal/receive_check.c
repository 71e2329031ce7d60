/*
 * receive_check.c - check what was received, and what to do about damage.
 *
 * A contradiction (CRC, link, page header) ends the connection: the server is asked again. When it
 * sends the same bytes a second time, they are its history: they are archived as they are, with
 * checked = false, an event and a warning, and reading goes on with the next page. With
 * on_damage = stop the stream stops there instead and keeps saying so.
 */
#include "branch_of_internal.h"
#include "receiver_internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PAGE_INFO 2 /* little-endian flags */
#define PAGE_CONTINUES 1u

/* What was wrong at the last reading, or was accepted. */
struct wa_damage {
    struct wa_damage *next;
    wa_lsn page;
    char prefix_xxh3[WA_XXH_HEX]; /* of the segment up to the page */
    char message[256];
    bool accepted;
};

void
wa_damage_free(struct wa_damage *damage)
{
    while (damage != NULL) {
        struct wa_damage *next = damage->next;
        free(damage);
        damage = next;
    }
}

static wa_status
on_record(void *arg, const wa_record *record, wa_error *err)
{
    wa_receiver *rx = arg;
    (void)err;
    bool counts = record->end > rx->counted, fresh = record->end > rx->fresh_from;
    /* Nearly always both: then it is looked at once. The few others come before those. */
    if (counts && fresh)
        wa_wal_facts_add(rx->message, record);
    else if (counts)
        wa_wal_facts_add(rx->segment, record);
    else if (fresh)
        wa_wal_facts_add(rx->fresh, record);
    if (rx->fork != 0 && record->lsn >= rx->fork && rx->first_record.len == 0)
        wa_branch_record_bytes(record, &rx->first_record);
    return WA_OK;
}

static void
accept_damage(wa_receiver *rx, wa_lsn page)
{
    rx->damaged = true;
    rx->blind = true;
    rx->message->overflow = true; /* its records are not known */
    rx->skip_until = page + WA_WAL_PAGE;
}

static wa_status
found_damage(wa_receiver *rx, wa_lsn page, wa_error *err)
{
    wa_streamer *s = rx->s;
    struct wa_damage *known = s->damage;
    while (known != NULL && !(known->page == page && strcmp(known->message, err->message) == 0 &&
                              strcmp(known->prefix_xxh3, rx->page_xxh3) == 0))
        known = known->next;
    if (known == NULL) {
        known = wa_calloc(1, sizeof *known);
        known->page = page;
        snprintf(known->prefix_xxh3, sizeof known->prefix_xxh3, "%s", rx->page_xxh3);
        snprintf(known->message, sizeof known->message, "%.*s", (int)sizeof known->message - 1,
                 err->message);
        known->next = s->damage;
        s->damage = known;
        return wa_error_wrap(err, "the server sent WAL that contradicts itself, reading it again");
    }
    if (!known->accepted) {
        known->accepted = true;
        wa_streamer_event(
            s, "damage", WA_LOG_WARNING,
            "Take a base backup, and check the server's disk: recovery will stop there.",
            "the server sent the same damaged WAL twice: %s", err->message);
        WA_LOCK(&s->mutex);
        s->status.damaged++;
    }
    if (s->options.stop_on_damage) {
        wa_error_hint(err, "[archive] on_damage is \"stop\".");
        return wa_error_wrap(err, "the server sent the same damaged WAL twice");
    }
    accept_damage(rx, page);
    wa_error_clear(err);
    return WA_OK;
}

/* The rest of a damaged page passes unread; behind it the reader looks for the next record. */
static void
skip_damage(wa_receiver *rx, wa_lsn end)
{
    if (end >= rx->skip_until) {
        wa_walreader_start(rx->reader, rx->skip_until, 0);
        rx->skip_until = 0;
    }
}

static wa_status
check_slice(wa_receiver *rx, wa_lsn lsn, const uint8_t *data, size_t len, wa_error *err)
{
    wa_wal_end state = WA_WAL_MORE;
    wa_lsn page = lsn - lsn % WA_WAL_PAGE;
    if (lsn == page)
        wa_xxh_hex(rx->hash, rx->page_xxh3);
    wa_xxh_update(rx->hash, data, len);
    if (rx->skip_until == 0) {
        char at[WA_LSN_TEXT];
        wa_status status = wa_walreader_feed(rx->reader, data, len, on_record, rx, &state, err);
        if (status == WA_OK && state == WA_WAL_END)
            status = wa_error_set(err, WA_CORRUPT, "no record begins at %s",
                                  wa_lsn_format(wa_walreader_end(rx->reader), at));
        if (status != WA_OK && status != WA_CORRUPT)
            return status;
        if (status == WA_CORRUPT)
            WA_TRY(found_damage(rx, page, err));
        rx->parsed = rx->parsed && state != WA_WAL_UNPARSED;
    }
    if (rx->skip_until != 0)
        skip_damage(rx, lsn + len);
    return WA_OK;
}

/* The record that goes on into this segment belongs to its facts. Where its beginning was not read
 * (a connection begins here, or damage ends), and it was not counted before, they are not
 * everything. */
static void
note_crossing(wa_receiver *rx, const uint8_t *page, size_t len)
{
    rx->begins = false;
    if (len > PAGE_INFO && (page[PAGE_INFO] & PAGE_CONTINUES) == 0)
        return;
    if (rx->counted <= rx->position && !wa_walreader_in_record(rx->reader))
        rx->message->overflow = true;
}

wa_status
wa_receiver_check(wa_receiver *rx, const uint8_t *data, size_t len, wa_error *err)
{
    wa_lsn lsn = rx->position;
    if (rx->begins)
        note_crossing(rx, data, len);
    while (len > 0) {
        size_t slice = (size_t)(WA_WAL_PAGE - lsn % WA_WAL_PAGE);
        if (slice > len)
            slice = len;
        WA_TRY(check_slice(rx, lsn, data, slice, err));
        lsn += slice;
        data += slice;
        len -= slice;
    }
    return WA_OK;
}

wa_lsn
wa_receiver_checked(const wa_receiver *rx)
{
    if (!rx->parsed || rx->skip_until != 0)
        return rx->position;
    if (rx->blind && wa_walreader_last_record(rx->reader) == 0)
        return rx->position;
    wa_lsn end = wa_walreader_end(rx->reader);
    return end < rx->position ? end : rx->position;
}
