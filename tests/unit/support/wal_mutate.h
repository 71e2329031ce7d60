/*
 * support/wal_mutate.h - damage WAL at random and see whether the reader notices.
 */
#ifndef WALAGENT_TESTS_WAL_MUTATE_H
#define WALAGENT_TESTS_WAL_MUTATE_H

#include "walagent/pg/walreader.h"

/*
 * `count` times: copy the segment, flip bits, cut it (zeroes to the end), swap two pages, zero a
 * page, or shift bytes, each time within the checked range, and read it with the segment's own
 * system identifier and timelines. Returns how many mutations passed unnoticed; each is printed to
 * stderr with the seed. A change of the page flag "removable" alone is none: it says nothing.
 */
size_t wal_mutate_unnoticed(const uint8_t *segment, size_t len, wa_lsn start, unsigned seed,
                            size_t count);

/* One such mutation of bytes[0..range) (zeroes may go on to len), by random(). */
void wal_mutate(uint8_t *bytes, size_t len, size_t range);
/* Are bytes[from..range) those of the segment, but for that flag? */
bool wal_is_same(const uint8_t *segment, const uint8_t *bytes, size_t from, size_t range);

#endif
