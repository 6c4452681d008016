/*
 * words: the words that both configurations know, for the tables of keys.
 */
#pragma once
#include "engine/conf/reader.h"

extern const struct reader_word word_protocols[];    /* enum conf_protocol */
extern const struct reader_word word_durabilities[]; /* enum conf_durability */
extern const struct reader_word word_urings[];       /* enum conf_uring */
extern const struct reader_word word_levels[];       /* enum conf_log_level */
extern const struct reader_word word_switches[];     /* bool */
