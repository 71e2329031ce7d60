/*
 * pg/lsn.c - log sequence numbers, segment numbers and the names in pg_wal.
 *
 *   text      "X/X": high and low 32 bits, upper-case hex without leading zeroes, 1 to 8 digits
 * each key       16 upper-case hex digits segment   TTTTTTTTLLLLLLLLSSSSSSSS: timeline, log id (LSN
 * >> 32), segment within the log id backup    SEGMENT.OOOOOOOO.backup: segment and offset of a base
 * backup's start
 */
#include "walagent/pg/lsn.h"

#include <ctype.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define SEGMENT_DIGITS 24

static bool
is_upper_hex(const char *s, size_t digits)
{
    for (size_t i = 0; i < digits; i++)
        if (!((s[i] >= '0' && s[i] <= '9') || (s[i] >= 'A' && s[i] <= 'F')))
            return false;
    return true;
}

/* The value of `digits` characters at s, which are known to be hexadecimal. */
static uint64_t
hex_value(const char *s, size_t digits)
{
    uint64_t value = 0;

    for (size_t i = 0; i < digits; i++) {
        int c = toupper((unsigned char)s[i]);
        value = value << 4 | (uint64_t)(c <= '9' ? c - '0' : c - 'A' + 10);
    }
    return value;
}

char *
wa_lsn_format(wa_lsn lsn, char out[static WA_LSN_TEXT])
{
    snprintf(out, WA_LSN_TEXT, "%" PRIX32 "/%" PRIX32, (uint32_t)(lsn >> 32), (uint32_t)lsn);
    return out;
}

char *
wa_lsn_hex(wa_lsn lsn, char out[static WA_LSN_TEXT])
{
    snprintf(out, WA_LSN_TEXT, "%016" PRIX64, lsn);
    return out;
}

/* 1 to 8 hexadecimal digits; gives how many. */
static size_t
count_hex(const char *s)
{
    size_t n = 0;

    while (n <= 8 && isxdigit((unsigned char)s[n]))
        n++;
    return n >= 1 && n <= 8 ? n : 0;
}

wa_status
wa_lsn_parse(const char *text, wa_lsn *ret, wa_error *err)
{
    size_t high = count_hex(text);
    size_t low = high > 0 && text[high] == '/' ? count_hex(text + high + 1) : 0;

    if (low == 0 || text[high + 1 + low] != '\0') {
        (void)wa_error_set(err, WA_INVALID, "\"%.40s\" is not an LSN", text);
        return wa_error_hint(err, "Write it as PostgreSQL does, for example 16/B374D848.");
    }
    *ret = hex_value(text, high) << 32 | hex_value(text + high + 1, low);
    return WA_OK;
}

bool
wa_lsn_parse_hex(const char *hex16, wa_lsn *ret)
{
    if (strlen(hex16) != 16 || !is_upper_hex(hex16, 16))
        return false;
    *ret = hex_value(hex16, 16);
    return true;
}

bool
wa_segment_size_valid(uint64_t size)
{
    return size >= UINT64_C(1) << 20 && size <= UINT64_C(1) << 30 && (size & (size - 1)) == 0;
}

static uint64_t
segments_per_log(uint64_t segment_size)
{
    return (UINT64_C(1) << 32) / segment_size;
}

char *
wa_segment_name(wa_tli tli, wa_segno segno, uint64_t segment_size, char out[static WA_SEGMENT_NAME])
{
    uint64_t per_log = segments_per_log(segment_size);

    snprintf(out, WA_SEGMENT_NAME, "%08" PRIX32 "%08" PRIX32 "%08" PRIX32, tli,
             (uint32_t)(segno / per_log), (uint32_t)(segno % per_log));
    return out;
}

bool
wa_segment_parse(const char *name, uint64_t segment_size, wa_tli *ret_tli, wa_segno *ret_segno)
{
    if (strlen(name) != SEGMENT_DIGITS || !is_upper_hex(name, SEGMENT_DIGITS))
        return false;

    uint64_t per_log = segments_per_log(segment_size);
    uint64_t tli = hex_value(name, 8);
    uint64_t log = hex_value(name + 8, 8);
    uint64_t seg = hex_value(name + 16, 8);
    if (tli == 0 || seg >= per_log)
        return false;
    *ret_tli = (wa_tli)tli;
    *ret_segno = log * per_log + seg;
    return true;
}

wa_wal_file_kind
wa_wal_file_kind_of(const char *name)
{
    size_t len = strlen(name);

    if (len == 16 && is_upper_hex(name, 8) && strcmp(name + 8, ".history") == 0)
        return WA_WAL_HISTORY;
    if (len < SEGMENT_DIGITS || !is_upper_hex(name, SEGMENT_DIGITS))
        return WA_WAL_OTHER;

    const char *suffix = name + SEGMENT_DIGITS;
    if (suffix[0] == '\0')
        return WA_WAL_SEGMENT;
    if (strcmp(suffix, ".partial") == 0)
        return WA_WAL_PARTIAL;
    if (len == SEGMENT_DIGITS + 16 && suffix[0] == '.' && is_upper_hex(suffix + 1, 8) &&
        strcmp(suffix + 9, ".backup") == 0)
        return WA_WAL_BACKUP;
    return WA_WAL_OTHER;
}
