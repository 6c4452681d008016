/*
 * search_index: which texts of a user may hold some words: the full-text index of SEARCH, in one file a user.
 *
 * It answers with candidates: all texts that hold the words as a substring (RFC 9051 §6.4.4), whatever words are cut at,
 * and perhaps a few that do not. Who asks looks at each of them, and at all that are not in the index yet, so that
 * an answer is complete whatever the index has. It is a cache: what is lost of it is added again.
 *
 * Texts come folded (letters of any case alike) and in UTF-8 by who calls, words by the same way. It is made of
 * trigrams (SQLite's FTS5), so words of less than three characters it does not know.
 *
 * Blocks, so it is called from a helper thread; one thread at a time for each index. A power loss can lose what was
 * added last, but spoils nothing; a file that is spoilt all the same is noticed (checked_vfs.h) and made anew.
 */
#pragma once
#include "engine/core/slice.h"

struct search_index;

#define SEARCH_INDEX_TEXT_MAX (4u * 1024 * 1024) /* of header or body; what is longer is cut */
#define SEARCH_INDEX_WORDS_MAX 1024u             /* bytes of what is searched for that count */

struct search_text {
    uint64_t id; /* of the text, not above INT64_MAX */
    struct slice header, body;
    bool cut; /* there is more of it: it is always a candidate. One above the bound is cut here */
};

enum search_where {
    SEARCH_IN_HEADER = 1,
    SEARCH_IN_BODY = 2,
};

/* Makes the file when it is missing, spoilt, or of another version. version: of the form that texts have.
 * 0, -ENOMEM, -EIO, or another errno of the file. */
int search_index_open(struct search_index **index, const char *path, uint32_t version);
void search_index_close(struct search_index *index); /* NULL is fine */

/* All or none. One that is there already is passed over. 0, -EINVAL (its id), -ENOMEM, -ENOSPC, -EIO. */
int search_index_add(struct search_index *index, const struct search_text *texts, size_t count);
/* They are no candidates any more; harmless when they are not there. */
int search_index_drop(struct search_index *index, const uint64_t *ids, size_t count);

/* Visits the ids that are in the index, ascending: what else there is has to be looked at, and added. */
int search_index_each(struct search_index *index, void (*visit)(void *owner, uint64_t id),
                      void *owner);
/* Visits the candidates, ascending. where: bits of enum search_where. -ENOENT: the words are too short to tell, or not
 * UTF-8: every text is one. */
int search_index_find(struct search_index *index, struct slice words, unsigned where,
                      void (*visit)(void *owner, uint64_t id), void *owner);

struct search_index_facts {
    uint64_t texts;
    uint64_t
        dropped; /* whose trigrams still take room: when they outweigh the others, begin anew */
};
int search_index_facts(struct search_index *index, struct search_index_facts *facts);
/* Empties it. */
int search_index_renew(struct search_index *index);
