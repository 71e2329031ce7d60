/*
 * Fuzz target: WAL pages and records.
 *
 *   0  how the bytes are cut into portions (0: not at all)
 *   1  flags: 1 lenient, 2 make page addresses and CRCs of records that lie within a page right
 *   2  the bytes, from the start of a segment
 *
 * Reading whole and in portions must give the same; what is reported goes through every decoder.
 */
#include "walagent/base/bytes.h"
#include "walagent/base/crc32c.h"
#include "walagent/base/mem.h"
#include "walagent/pg/walfacts.h"
#include "walagent/pg/walreader.h"

#include <stdint.h>

#define SEGMENT (UINT64_C(1) << 20)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

typedef struct result {
    wa_status status;
    wa_wal_end end_kind;
    wa_lsn end;
    uint64_t records, sum;
    wa_wal_facts facts;
} result;

static wa_status
see(void *arg, const wa_record *record, wa_error *err)
{
    result *r = arg;
    wa_block_ref refs[33];
    uint32_t main_len = 0;
    const uint8_t *main_data = wa_record_main(record, &main_len);

    (void)err;
    r->records++;
    for (uint32_t i = 0; i < record->body_len; i++)
        r->sum = r->sum * 31 + record->body[i];
    r->sum = r->sum * 31 + record->lsn + wa_record_blocks(record, refs, WA_ARRAY_SIZE(refs));
    for (uint32_t i = 0; i < main_len; i++)
        r->sum = r->sum * 31 + main_data[i];
    wa_wal_facts_add(&r->facts, record);
    return WA_OK;
}

static void
read_wal(const uint8_t *wal, size_t len, size_t portion, bool lenient, result *ret)
{
    WA_CLEANUP(wa_walreader_freep) wa_walreader *r = wa_walreader_new(SEGMENT);
    wa_error err = WA_ERROR_INIT;

    wa_wal_facts_init(&ret->facts);
    wa_walreader_lenient(r, lenient);
    wa_walreader_start(r, SEGMENT, 0);
    for (size_t at = 0; at < len && ret->status == WA_OK; at += portion) {
        size_t n = len - at < portion ? len - at : portion;
        ret->status = wa_walreader_feed(r, wal + at, n, see, ret, &ret->end_kind, &err);
    }
    ret->end = wa_walreader_end(r);
    WA_ASSERT(ret->end >= SEGMENT && ret->end <= SEGMENT + len);
    WA_ASSERT(!lenient || ret->status == WA_OK);
}

/* What lies within pages made right, so that the fuzzer gets past the checksums. */
static void
repair(uint8_t *wal, size_t len)
{
    wa_lsn prev = SEGMENT - 0x28;

    for (size_t page = 0; page + 40 <= len; page += WA_WAL_PAGE) {
        size_t page_end = len - page < WA_WAL_PAGE ? len : page + WA_WAL_PAGE;
        size_t at = page + (page == 0 ? 40 : 24);
        wa_put_u16le(wal + page, 0xD110);
        wa_put_u64le(wal + page + 8, SEGMENT + page);
        while (at + 24 <= page_end) {
            uint32_t tot_len = wa_get_u32le(wal + at);
            if (tot_len < 24 || tot_len > page_end - at)
                break;
            wa_put_u64le(wal + at + 8, prev);
            uint32_t crc = wa_crc32c(0, wal + at + 24, tot_len - 24);
            wa_put_u32le(wal + at + 20, wa_crc32c(crc, wal + at, 20));
            prev = SEGMENT + at;
            at += (tot_len + 7) & ~7u;
        }
    }
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    if (len < 3)
        return 0;
    bool lenient = (data[1] & 1) != 0;
    size_t portion = data[0] != 0 ? data[0] : len;
    size_t wal_len = len - 2;
    WA_CLEANUP(wa_freep) uint8_t *wal = wa_memdup(data + 2, wal_len);
    WA_CLEANUP(wa_freep) result *whole = wa_calloc(1, sizeof *whole);
    WA_CLEANUP(wa_freep) result *cut = wa_calloc(1, sizeof *cut);

    if (data[1] & 2)
        repair(wal, wal_len);
    read_wal(wal, wal_len, wal_len, lenient, whole);
    read_wal(wal, wal_len, portion, lenient, cut);
    WA_ASSERT(whole->records == cut->records && whole->sum == cut->sum);
    WA_ASSERT(whole->status == cut->status && whole->end == cut->end);
    WA_ASSERT(whole->status != WA_OK || whole->end_kind == cut->end_kind);
    WA_CLEANUP(wa_json_freep) json_t *json = wa_wal_facts_to_json(&whole->facts);
    WA_ASSERT(json_dumpb(json, NULL, 0, JSON_COMPACT) <= 12288);
    return 0;
}
