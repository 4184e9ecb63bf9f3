// Flash attention, forward and backward, for one kind of vector unit: compiled once for each, see native/compiler.py.
//
// A panel is up to three vectors of queries. Scores of a block of keys are computed as K Q^T, so that a query is one
// lane from the product through the softmax, which then needs no sum across lanes. Keys and values of a block are
// copied into columns two vectors wide, where products read them in order. Exponentials are of base two.
//
// Every lane's arithmetic is the same wherever in a panel, batch or padded array its query stands: results depend on
// nothing but the row itself.
//
// Sources: Dao et al. 2022, https://arxiv.org/abs/2205.14135, algorithms 1 and 4; for what a row of dropped weights is
// drawn from, transformer_jax/functional/dropout.py.

#include "attention.h"

#include <cmath>
#include <cstring>

#include "vectors.h"

namespace transformer_jax {
namespace {

constexpr int MAX_VECTORS = 3;                 // of queries in a panel
constexpr int LANES = MAX_VECTORS * W;         // queries in a panel, at most
constexpr int COLUMNS = 2 * W;                 // width of a packed column
constexpr int KEY_TILE = W == 16 ? 8 : 4;      // keys of a tile of scores
constexpr int SUM_TILE = W == 16 ? 8 : 6;      // keys of a tile of key and value gradients
constexpr int KEY_BLOCK = 128;                 // keys of a block of the forward pass
constexpr int KEY_CHUNK = 256;                 // keys of a task of the backward pass
constexpr int TASK_LANES = 192;                // queries of a task of the forward pass

typedef float Four __attribute__((vector_size(16)));
typedef float LooseFour __attribute__((vector_size(16), aligned(4), may_alias));

#if defined(__clang__) || __GNUC__ >= 12
#define SHUFFLE(a, b, w, x, y, z) __builtin_shufflevector(a, b, w, x, y, z)
#else
typedef int32_t FourInts __attribute__((vector_size(16)));
#define SHUFFLE(a, b, w, x, y, z) __builtin_shuffle(a, b, (FourInts){w, x, y, z})
#endif

// Writes four rows of four numbers, times a factor, as columns: to[column * stride + row].
INLINE void turn_four(const float* const rows[4], int64_t at, float* to, int64_t stride, float factor) {
  const Four times = {factor, factor, factor, factor};
  const Four a = *reinterpret_cast<const LooseFour*>(rows[0] + at) * times;
  const Four b = *reinterpret_cast<const LooseFour*>(rows[1] + at) * times;
  const Four c = *reinterpret_cast<const LooseFour*>(rows[2] + at) * times;
  const Four d = *reinterpret_cast<const LooseFour*>(rows[3] + at) * times;
  const Four ab_low = SHUFFLE(a, b, 0, 4, 1, 5), ab_high = SHUFFLE(a, b, 2, 6, 3, 7);
  const Four cd_low = SHUFFLE(c, d, 0, 4, 1, 5), cd_high = SHUFFLE(c, d, 2, 6, 3, 7);
  *reinterpret_cast<LooseFour*>(to) = SHUFFLE(ab_low, cd_low, 0, 1, 4, 5);
  *reinterpret_cast<LooseFour*>(to + stride) = SHUFFLE(ab_low, cd_low, 2, 3, 6, 7);
  *reinterpret_cast<LooseFour*>(to + 2 * stride) = SHUFFLE(ab_high, cd_high, 0, 1, 4, 5);
  *reinterpret_cast<LooseFour*>(to + 3 * stride) = SHUFFLE(ab_high, cd_high, 2, 3, 6, 7);
}

// Some queries that go together, one a lane. Lanes beyond `live` repeat the last query, and nobody reads what they give.
struct Panel {
  int vectors, live;
  float* turned;                // [head_dim][vectors * W], with scale and log2(e)
  float* sums;                  // forward: [lane][value columns]
  bool visited;
  int32_t min_position, max_position;
  const float* rows[LANES];     // of the query
  int64_t row_at[LANES];        // index of the row in [rows, heads, q_len]
  int64_t place[LANES];         // index of the row in [rows, q_len, heads]
  const uint8_t* dense[LANES];
  int32_t* segments;            // [pair][LANES]
  alignas(64) int32_t position[LANES];
  alignas(64) uint32_t key0[LANES];
  alignas(64) uint32_t key1[LANES];
  alignas(64) float slope[LANES];
  alignas(64) float maximum[LANES];
  alignas(64) float total[LANES];
  alignas(64) int32_t is_bad[LANES];    // the query is not finite
  alignas(64) int32_t poisoned[LANES];  // it sees a key that is not finite
  alignas(64) float delta[LANES];       // backward: output times its gradient

  int lanes() const { return vectors * W; }
};

// What the keys of one row of the batch bring.
struct KeySide {
  const int32_t* positions;
  const int32_t* segments;
  const uint8_t* valid;
  int64_t length;
};

KeySide key_side(const Call& call, int64_t outer, int64_t row) {
  KeySide side;
  side.positions = call.key_positions.of(outer, row);
  side.segments = call.key_segments.of(outer, row);
  side.valid = call.valid.of(outer, row);
  const int32_t* length = call.lengths.of(outer, row);
  side.length = length == nullptr ? call.kv_len : most(0, least(*length, call.kv_len));
  return side;
}

// Sets up the queries from `first` on of all that share a key head, counted head by head.
void fill_panel(const Call& call, int64_t outer, int64_t row, int64_t kv_head, int64_t first, int live, Panel& panel) {
  const int64_t group = call.heads / call.kv_heads;
  panel.live = live;
  panel.vectors = static_cast<int>(over(live, W));
  panel.visited = false;
  const int64_t whole_row = outer * call.batch + row;
  const int32_t* positions = call.query_positions.of(outer, row);
  const int32_t* segments = call.query_segments.of(outer, row);
  const uint8_t* dense = call.dense.of(outer, row);
  const float* slopes = call.slopes.of(outer, row);
  const uint32_t* keys = call.dropout_keys.of(outer, row);
  panel.min_position = INT32_MAX;
  panel.max_position = INT32_MIN;
  for (int lane = 0; lane < panel.lanes(); ++lane) {
    const int64_t flat = first + (lane < live ? lane : live - 1);
    const int64_t head = kv_head * group + flat / call.q_len, index = flat % call.q_len;
    panel.place[lane] = (whole_row * call.q_len + index) * call.heads + head;
    panel.row_at[lane] = (whole_row * call.heads + head) * call.q_len + index;
    panel.rows[lane] = call.query + panel.place[lane] * call.head_dim;
    const int32_t position = positions == nullptr ? static_cast<int32_t>(index) : positions[index];
    panel.position[lane] = position;
    if (position < panel.min_position) panel.min_position = position;
    if (position > panel.max_position) panel.max_position = position;
    for (int64_t pair = 0; pair < call.num_segment_pairs; ++pair)
      panel.segments[pair * LANES + lane] = segments[pair * call.q_len + index];
    panel.dense[lane] =
        dense == nullptr
            ? nullptr
            : dense + ((call.dense_heads == 1 ? 0 : head) * call.q_len + index) * call.kv_len;
    panel.slope[lane] = slopes == nullptr ? 0.0f : slopes[head] * LOG2_E;
    if (keys != nullptr) {
      panel.key0[lane] = keys[(head * call.q_len + index) * 2];
      panel.key1[lane] = keys[(head * call.q_len + index) * 2 + 1];
    }
    panel.maximum[lane] = -INFINITE;
    panel.total[lane] = 0.0f;
    panel.is_bad[lane] = 0;
    panel.poisoned[lane] = 0;
  }
}

// Turns rows of the panel to [width][lanes]; a row whose pointer is null gives zeros.
void turn_rows(const float* const* rows, int lanes, int64_t width, float factor, float* to) {
  for (int lane = 0; lane < lanes; lane += 4) {
    int64_t at = 0;
    const float* four[4] = {rows[lane], rows[lane + 1], rows[lane + 2], rows[lane + 3]};
    if (four[0] != nullptr && four[1] != nullptr && four[2] != nullptr && four[3] != nullptr) {
      for (; at + 4 <= width; at += 4) turn_four(four, at, to + at * lanes + lane, lanes, factor);
    }
    for (; at < width; ++at) {
      for (int one = 0; one < 4; ++one)
        to[at * lanes + lane + one] = four[one] == nullptr ? 0.0f : four[one][at] * factor;
    }
  }
}

// Whether every number of a row is finite.
bool is_finite_row(const float* from, int64_t width) {
  Vector sum = splat(0.0f);
  int64_t at = 0;
  for (; at + W <= width; at += W) sum += load(from + at) * splat(0.0f);
  float rest = 0.0f;
  for (; at < width; ++at) rest += from[at] * 0.0f;
  for (int lane = 0; lane < W; ++lane) rest += sum[lane];
  return rest == 0.0f;
}

// Copies `count` rows into columns of COLUMNS numbers, [column][room][COLUMNS], the last one filled up by zeros.
// Returns whether all were finite.
bool pack(const float* from, int64_t stride, int64_t count, int64_t width, int64_t room, float* to) {
  Vector sum = splat(0.0f);
  float rest_sum = 0.0f;
  for (int64_t first = 0, column = 0; first < width; first += COLUMNS, ++column) {
    float* target = to + column * room * COLUMNS;
    const int64_t part = least(COLUMNS, width - first);
    for (int64_t row = 0; row < count; ++row) {
      const float* source = from + row * stride + first;
      float* own = target + row * COLUMNS;
      if (part == COLUMNS) {
        const Vector low = load(source), high = load(source + W);
        sum += low * splat(0.0f) + high * splat(0.0f);
        store(own, low);
        store(own + W, high);
      } else {
        for (int64_t at = 0; at < part; ++at) {
          rest_sum += source[at] * 0.0f;
          own[at] = source[at];
        }
        for (int64_t at = part; at < COLUMNS; ++at) own[at] = 0.0f;
      }
    }
  }
  for (int lane = 0; lane < W; ++lane) rest_sum += sum[lane];
  return rest_sum == 0.0f;
}

// Puts zeros in the place of packed numbers that are not finite, and marks their rows.
void clean(float* packed, int64_t count, int64_t width, int64_t room, uint8_t* bad) {
  for (int64_t column = 0; column < over(width, COLUMNS); ++column) {
    for (int64_t row = 0; row < count; ++row) {
      float* own = packed + (column * room + row) * COLUMNS;
      for (int64_t at = 0; at < COLUMNS; ++at) {
        if (!is_finite(own[at])) {
          own[at] = 0.0f;
          bad[row] = 1;
        }
      }
    }
  }
}

// Scores of KEYS packed rows against all lanes: to[key][lane] = sum over d of packed[key][d] turned[d][lane].
template <int VECTORS, int KEYS>
INLINE void score_tile(const float* packed, int64_t room, const float* turned, int64_t width, float* to) {
  Vector sums[KEYS][VECTORS];
#pragma GCC unroll 8
  for (int key = 0; key < KEYS; ++key)
#pragma GCC unroll 3
    for (int vector = 0; vector < VECTORS; ++vector) sums[key][vector] = splat(0.0f);
  for (int64_t first = 0; first < width; first += COLUMNS) {
    const int64_t part = least(COLUMNS, width - first);
    for (int64_t at = 0; at < part; ++at) {
      Vector lanes[VECTORS];
#pragma GCC unroll 3
      for (int vector = 0; vector < VECTORS; ++vector) lanes[vector] = load(turned + vector * W);
      turned += VECTORS * W;
#pragma GCC unroll 8
      for (int key = 0; key < KEYS; ++key) {
        const Vector one = splat(packed[key * COLUMNS + at]);
#pragma GCC unroll 3
        for (int vector = 0; vector < VECTORS; ++vector) sums[key][vector] += one * lanes[vector];
      }
    }
    packed += room * COLUMNS;
  }
#pragma GCC unroll 8
  for (int key = 0; key < KEYS; ++key)
#pragma GCC unroll 3
    for (int vector = 0; vector < VECTORS; ++vector)
      store(to + (key * VECTORS + vector) * W, sums[key][vector]);
}

template <int VECTORS, int KEYS>
void score_rest(const float* packed, int64_t room, const float* turned, int64_t width, float* to, int64_t rest) {
  if constexpr (KEYS > 0) {
    if (rest == KEYS) {
      score_tile<VECTORS, KEYS>(packed, room, turned, width, to);
    } else {
      score_rest<VECTORS, KEYS - 1>(packed, room, turned, width, to, rest);
    }
  }
}

template <int VECTORS>
void score_rows(const float* packed, int64_t room, const float* turned, int64_t width, float* to, int64_t count) {
  int64_t key = 0;
  for (; key + KEY_TILE <= count; key += KEY_TILE)
    score_tile<VECTORS, KEY_TILE>(packed + key * COLUMNS, room, turned, width, to + key * VECTORS * W);
  score_rest<VECTORS, KEY_TILE - 1>(
      packed + key * COLUMNS, room, turned, width, to + key * VECTORS * W, count - key);
}

// sums[query][column] (+)= sum over keys of weights[key][query] packed[key][column], for QUERIES queries and one packed
// column of VECTORS vectors.
template <int QUERIES, int VECTORS>
INLINE void weighted_tile(
    const float* weights, int64_t lanes, const float* packed, int64_t count, float* sums, int64_t stride, bool adds) {
  Vector own[QUERIES][VECTORS];
#pragma GCC unroll 8
  for (int query = 0; query < QUERIES; ++query)
#pragma GCC unroll 2
    for (int vector = 0; vector < VECTORS; ++vector)
      own[query][vector] = adds ? load(sums + query * stride + vector * W) : splat(0.0f);
  for (int64_t key = 0; key < count; ++key) {
    Vector values[VECTORS];
#pragma GCC unroll 2
    for (int vector = 0; vector < VECTORS; ++vector) values[vector] = load(packed + key * COLUMNS + vector * W);
#pragma GCC unroll 8
    for (int query = 0; query < QUERIES; ++query) {
      const Vector one = splat(weights[key * lanes + query]);
#pragma GCC unroll 2
      for (int vector = 0; vector < VECTORS; ++vector) own[query][vector] += one * values[vector];
    }
  }
#pragma GCC unroll 8
  for (int query = 0; query < QUERIES; ++query)
#pragma GCC unroll 2
    for (int vector = 0; vector < VECTORS; ++vector)
      store(sums + query * stride + vector * W, own[query][vector]);
}

// The same for all queries of a panel and all columns; `sums` is [lane][stride].
template <int PANEL_VECTORS>
void weighted_rows(
    const float* weights, int live, const float* packed, int64_t room, int64_t count, int64_t width, float* sums,
    int64_t stride, bool adds) {
  constexpr int QUERIES = W == 16 ? 8 : (PANEL_VECTORS == 3 && W == 8 ? 6 : 4);
  constexpr int64_t lanes = PANEL_VECTORS * W;
  for (int64_t first = 0, column = 0; first < width; first += COLUMNS, ++column) {
    const float* own = packed + column * room * COLUMNS;
    const bool is_narrow = width - first <= W;
    for (int query = 0; query < live; query += QUERIES) {
      float* to = sums + query * stride + first;
      if (is_narrow) {
        weighted_tile<QUERIES, 1>(weights + query, lanes, own, count, to, stride, adds);
      } else {
        weighted_tile<QUERIES, 2>(weights + query, lanes, own, count, to, stride, adds);
      }
    }
  }
}

// sums[key][column] += sum over queries of weights[key][query] rows[query][column], for KEYS keys and one column.
template <int KEYS, int VECTORS>
INLINE void summed_tile(const float* weights, int64_t lanes, int live, const float* rows, float* sums) {
  Vector own[KEYS][VECTORS];
#pragma GCC unroll 8
  for (int key = 0; key < KEYS; ++key)
#pragma GCC unroll 2
    for (int vector = 0; vector < VECTORS; ++vector) own[key][vector] = load(sums + key * COLUMNS + vector * W);
  for (int query = 0; query < live; ++query) {
    Vector values[VECTORS];
#pragma GCC unroll 2
    for (int vector = 0; vector < VECTORS; ++vector) values[vector] = load(rows + query * COLUMNS + vector * W);
#pragma GCC unroll 8
    for (int key = 0; key < KEYS; ++key) {
      const Vector one = splat(weights[key * lanes + query]);
#pragma GCC unroll 2
      for (int vector = 0; vector < VECTORS; ++vector) own[key][vector] += one * values[vector];
    }
  }
#pragma GCC unroll 8
  for (int key = 0; key < KEYS; ++key)
#pragma GCC unroll 2
    for (int vector = 0; vector < VECTORS; ++vector) store(sums + key * COLUMNS + vector * W, own[key][vector]);
}

template <int KEYS, int VECTORS>
void summed_rest(const float* weights, int64_t lanes, int live, const float* rows, float* sums, int64_t rest) {
  if constexpr (KEYS > 0) {
    if (rest == KEYS) {
      summed_tile<KEYS, VECTORS>(weights, lanes, live, rows, sums);
    } else {
      summed_rest<KEYS - 1, VECTORS>(weights, lanes, live, rows, sums, rest);
    }
  }
}

template <int VECTORS>
void summed_column(
    const float* weights, int64_t lanes, int live, const float* rows, float* sums, int64_t count) {
  int64_t key = 0;
  for (; key + SUM_TILE <= count; key += SUM_TILE)
    summed_tile<SUM_TILE, VECTORS>(weights + key * lanes, lanes, live, rows, sums + key * COLUMNS);
  summed_rest<SUM_TILE - 1, VECTORS>(weights + key * lanes, lanes, live, rows, sums + key * COLUMNS, count - key);
}

// The same for `count` keys and all columns; `rows` is [column][LANES][COLUMNS], `sums` [column][room][COLUMNS].
void summed_rows(
    const float* weights, int64_t lanes, int live, const float* rows, int64_t count, int64_t width, float* sums,
    int64_t room) {
  for (int64_t first = 0, column = 0; first < width; first += COLUMNS, ++column) {
    const float* own = rows + column * LANES * COLUMNS;
    float* to = sums + column * room * COLUMNS;
    if (width - first <= W) {
      summed_column<1>(weights, lanes, live, own, to, count);
    } else {
      summed_column<2>(weights, lanes, live, own, to, count);
    }
  }
}

struct Range {
  int64_t first, last;  // keys that some query of the panel may see lie in [first, last)
  bool is_masked;       // whether some of these is hidden from some query
};

Range visible_range(const Call& call, const KeySide& side, const Panel& panel, int64_t first, int64_t last) {
  const bool is_ordered = call.has_left || call.has_right;
  last = least(last, side.length);
  if (first >= last) return {first, first, false};
  if (call.positions_may_wrap) return {first, last, true};
  if (!is_ordered && side.valid == nullptr && side.segments == nullptr) return {first, last, call.dense.data != nullptr};
  const int64_t low = panel.min_position, high = panel.max_position, left = call.left, right = call.right;
  if (side.positions == nullptr && side.valid == nullptr && side.segments == nullptr) {
    if (call.has_right) last = least(last, high + right + 1);
    if (call.has_left) first = most(first, low - left);
    if (first >= last) return {first, first, false};
    const bool all = (!call.has_right || last - 1 - low <= right) && (!call.has_left || first - high >= -left);
    return {first, last, !all || call.dense.data != nullptr};
  }
  Range range = {last, first, false};
  int64_t whole = 0;  // keys that every query sees
  for (int64_t key = first; key < last; ++key) {
    bool some = true, all = true;
    if (is_ordered) {
      const int64_t position = side.positions == nullptr ? key : side.positions[key];
      if (call.has_right) {
        some &= position - high <= right;
        all &= position - low <= right;
      }
      if (call.has_left) {
        some &= position - low >= -left;
        all &= position - high >= -left;
      }
    }
    if (side.valid != nullptr) some &= side.valid[key] != 0;
    for (int64_t pair = 0; pair < call.num_segment_pairs; ++pair) {
      const int32_t own = side.segments[pair * call.kv_len + key];
      const int32_t* theirs = panel.segments + pair * LANES;
      bool any = false, every = true;
      for (int lane = 0; lane < panel.lanes(); ++lane) {
        any |= theirs[lane] == own;
        every &= theirs[lane] == own;
      }
      some &= any;
      all &= every;
    }
    if (some) {
      range.first = least(range.first, key);
      range.last = key + 1;
      whole += all;
    }
  }
  if (range.first >= range.last) return {first, first, false};
  range.is_masked = whole != range.last - range.first || call.dense.data != nullptr;
  return range;
}

// Adds the bias to scores[key][lane] of the keys from `first` on, and hides what the mask hides.
void mask_scores(
    const Call& call, const KeySide& side, const Panel& panel, const Range& range, float* scores) {
  const bool is_ordered = range.is_masked && (call.has_left || call.has_right);
  const bool has_slopes = call.slopes.data != nullptr;
  for (int64_t key = range.first; key < range.last; ++key, scores += panel.lanes()) {
    const Ints position = splat(side.positions == nullptr ? static_cast<int32_t>(key) : side.positions[key]);
    const bool is_valid = side.valid == nullptr || side.valid[key] != 0;
    for (int vector = 0; vector < panel.vectors; ++vector) {
      float* own = scores + vector * W;
      const int at = vector * W;
      const Ints ahead = reinterpret_cast<Ints>(
          reinterpret_cast<Words>(position) - reinterpret_cast<Words>(load(panel.position + at)));
      Vector score = load(own);
      if (has_slopes) {
        const Ints distance = size_of(ahead);
        score -= load(panel.slope + at) * __builtin_convertvector(distance, Vector);
      }
      if (range.is_masked) {
        Ints sees = splat(is_valid ? -1 : 0);
        if (is_ordered && call.has_right) sees &= ahead <= splat(call.right);
        if (is_ordered && call.has_left) sees &= ahead >= splat(-call.left);
        for (int64_t pair = 0; pair < call.num_segment_pairs; ++pair)
          sees &= load(panel.segments + pair * LANES + at) == splat(side.segments[pair * call.kv_len + key]);
        if (call.dense.data != nullptr) {
          for (int lane = 0; lane < W; ++lane)
            if (panel.dense[at + lane][key] == 0) sees[lane] = 0;
        }
        score = sees ? score : splat(-INFINITE);
      }
      store(own, score);
    }
  }
}

// Which of the weights of a key stay: see functional/dropout.py, `kept`.
INLINE Ints kept(const Call& call, const Panel& panel, int at, int64_t key) {
  Words word = load(panel.key0 + at) + splat(static_cast<uint32_t>(key) * 0x9E3779B9u);
  word = (word ^ (word >> 16)) * splat(0x85EBCA6Bu);
  word = (word ^ (word >> 13)) * splat(0xC2B2AE35u);
  word = (word ^ (word >> 16) ^ load(panel.key1 + at)) * splat(0x9E3779B1u);
  word = word ^ (word >> 15);
  return reinterpret_cast<Ints>(word >= splat(call.dropout_threshold));
}

#define BY_VECTORS(vectors, call) \
  switch (vectors) {              \
    case 1: { constexpr int V = 1; call; } break; \
    case 2: { constexpr int V = 2; call; } break; \
    default: { constexpr int V = 3; call; }       \
  }

int64_t columns_of(int64_t width) { return over(width, COLUMNS); }

// ---- forward ----

int64_t rows_of_group(const Call& call) { return call.heads / call.kv_heads * call.q_len; }

int64_t forward_tasks(const Call& call) {
  return call.outer * call.batch * call.kv_heads * over(rows_of_group(call), TASK_LANES);
}

constexpr int64_t PANELS = (TASK_LANES + LANES - 1) / LANES;

size_t align(size_t bytes) { return (bytes + 63) / 64 * 64; }

size_t forward_bytes(const Call& call) {
  const size_t wide = columns_of(call.value_dim) * COLUMNS;
  size_t bytes = align(columns_of(call.head_dim) * COLUMNS * KEY_BLOCK * sizeof(float));
  bytes += align(wide * KEY_BLOCK * sizeof(float));
  bytes += align(KEY_BLOCK * LANES * sizeof(float)) + align(KEY_BLOCK) + align(PANELS * sizeof(Panel));
  bytes += PANELS * (align(call.head_dim * LANES * sizeof(float)) + align(wide * LANES * sizeof(float)));
  bytes += PANELS * align(call.num_segment_pairs * LANES * sizeof(int32_t) + 1);
  return bytes;
}

// Marks the lanes that see one of the bad keys, whose weights become zero.
void poison(const Range& range, const uint8_t* bad, Panel& panel, float* scores) {
  for (int64_t key = range.first; key < range.last; ++key) {
    if (!bad[key]) continue;
    float* own = scores + (key - range.first) * panel.lanes();
    for (int lane = 0; lane < panel.lanes(); ++lane) {
      if (own[lane] != -INFINITE) panel.poisoned[lane] = 1;
      own[lane] = -INFINITE;
    }
  }
}

template <int VECTORS>
INLINE void softmax_step(const Call& call, Panel& panel, const Range& range, float* scores, int64_t stride) {
  constexpr int lanes = VECTORS * W;
  const int64_t count = range.last - range.first;
  Vector maximum[VECTORS], shift[VECTORS], total[VECTORS];
#pragma GCC unroll 3
  for (int vector = 0; vector < VECTORS; ++vector) maximum[vector] = load(panel.maximum + vector * W);
  for (int64_t key = 0; key < count; ++key) {
#pragma GCC unroll 3
    for (int vector = 0; vector < VECTORS; ++vector) {
      const Vector score = load(scores + key * lanes + vector * W);
      maximum[vector] = score > maximum[vector] ? score : maximum[vector];
    }
  }
#pragma GCC unroll 3
  for (int vector = 0; vector < VECTORS; ++vector) {
    const Vector before = load(panel.maximum + vector * W);
    shift[vector] = maximum[vector] == splat(-INFINITE) ? splat(0.0f) : maximum[vector];
    const Vector factor = exp2_of(before - shift[vector]);
    total[vector] = load(panel.total + vector * W) * factor;
    store(panel.maximum + vector * W, maximum[vector]);
    if (panel.visited) {
      for (int lane = 0; lane < W && vector * W + lane < panel.live; ++lane) {
        const float one = factor[lane];
        if (one == 1.0f) continue;
        float* sums = panel.sums + (vector * W + lane) * stride;
        for (int64_t at = 0; at < stride; at += W) store(sums + at, load(sums + at) * splat(one));
      }
    }
  }
  for (int64_t key = 0; key < count; ++key) {
#pragma GCC unroll 3
    for (int vector = 0; vector < VECTORS; ++vector) {
      float* own = scores + key * lanes + vector * W;
      const Vector weight = exp2_of(load(own) - shift[vector]);
      total[vector] += weight;
      store(own, weight);
    }
  }
#pragma GCC unroll 3
  for (int vector = 0; vector < VECTORS; ++vector) store(panel.total + vector * W, total[vector]);
  if (call.dropout_keys.data != nullptr) {
    for (int64_t key = 0; key < count; ++key) {
      for (int vector = 0; vector < VECTORS; ++vector) {
        float* own = scores + key * lanes + vector * W;
        store(own, kept(call, panel, vector * W, range.first + key) ? load(own) : splat(0.0f));
      }
    }
  }
}

void finish_rows(const Call& call, const Panel& panel, int64_t stride) {
  for (int lane = 0; lane < panel.live; ++lane) {
    float* output = call.output + panel.place[lane] * call.value_dim;
    float* logsumexp = call.logsumexp + panel.row_at[lane];
    const float total = panel.total[lane];
    if (panel.poisoned[lane] || (panel.is_bad[lane] && total != 0.0f)) {
      for (int64_t at = 0; at < call.value_dim; ++at) output[at] = __builtin_nanf("");
      *logsumexp = __builtin_nanf("");
    } else if (total == 0.0f) {
      std::memset(output, 0, call.value_dim * sizeof(float));
      *logsumexp = -INFINITE;
    } else {
      const float factor = call.keep_scale / total;
      const float* sums = panel.sums + lane * stride;
      int64_t at = 0;
      for (; at + W <= call.value_dim; at += W) store(output + at, load(sums + at) * splat(factor));
      for (; at < call.value_dim; ++at) output[at] = sums[at] * factor;
      *logsumexp = (panel.maximum[lane] + std::log2(total)) * LN_2;
    }
  }
}

bool forward(const Call& call, int64_t task, Arena& arena) {
  const int64_t parts = over(rows_of_group(call), TASK_LANES);
  // Later queries see more under a causal mask: the long tasks come first.
  const int64_t part = parts - 1 - task % parts;
  const int64_t kv_head = task / parts % call.kv_heads;
  const int64_t whole_row = task / parts / call.kv_heads;
  const int64_t outer = whole_row / call.batch, row = whole_row % call.batch;
  const int64_t stride = columns_of(call.value_dim) * COLUMNS;

  arena.reset();
  float* keys = static_cast<float*>(arena.take(columns_of(call.head_dim) * COLUMNS * KEY_BLOCK * sizeof(float)));
  float* values = static_cast<float*>(arena.take(stride * KEY_BLOCK * sizeof(float)));
  float* scores = static_cast<float*>(arena.take(KEY_BLOCK * LANES * sizeof(float)));
  uint8_t* bad = static_cast<uint8_t*>(arena.take(KEY_BLOCK));
  Panel* panels = static_cast<Panel*>(arena.take(PANELS * sizeof(Panel)));
  if (panels == nullptr) return false;

  const int64_t first_row = part * TASK_LANES;
  const int64_t end_row = least(first_row + TASK_LANES, rows_of_group(call));
  int64_t num_panels = 0;
  for (int64_t first = first_row; first < end_row; first += LANES, ++num_panels) {
    Panel& panel = panels[num_panels];
    panel.turned = static_cast<float*>(arena.take(call.head_dim * LANES * sizeof(float)));
    panel.sums = static_cast<float*>(arena.take(stride * LANES * sizeof(float)));
    panel.segments =
        static_cast<int32_t*>(arena.take(call.num_segment_pairs * LANES * sizeof(int32_t) + 1));
    if (panel.segments == nullptr) return false;
    fill_panel(call, outer, row, kv_head, first, static_cast<int>(least(LANES, end_row - first)), panel);
    const float* rows[LANES];
    for (int lane = 0; lane < panel.lanes(); ++lane) {
      panel.is_bad[lane] = !is_finite_row(panel.rows[lane], call.head_dim);
      rows[lane] = panel.is_bad[lane] ? nullptr : panel.rows[lane];
    }
    turn_rows(rows, panel.lanes(), call.head_dim, call.scale * LOG2_E, panel.turned);
  }

  const KeySide side = key_side(call, outer, row);
  const int64_t key_stride = call.kv_heads * call.head_dim, value_stride = call.kv_heads * call.value_dim;
  const float* key_rows = call.key + (whole_row * call.kv_len * call.kv_heads + kv_head) * call.head_dim;
  const float* value_rows = call.value + (whole_row * call.kv_len * call.kv_heads + kv_head) * call.value_dim;
  for (int64_t start = 0; start < side.length; start += KEY_BLOCK) {
    const int64_t count = least(KEY_BLOCK, side.length - start);
    bool is_packed = false, has_bad = false;
    for (int64_t which = 0; which < num_panels; ++which) {
      Panel& panel = panels[which];
      const Range range = visible_range(call, side, panel, start, start + count);
      if (range.first >= range.last) continue;
      if (!is_packed) {
        bool finite = pack(key_rows + start * key_stride, key_stride, count, call.head_dim, KEY_BLOCK, keys);
        finite &= pack(value_rows + start * value_stride, value_stride, count, call.value_dim, KEY_BLOCK, values);
        has_bad = !finite;
        if (has_bad) {
          std::memset(bad, 0, KEY_BLOCK);
          clean(keys, count, call.head_dim, KEY_BLOCK, bad);
          clean(values, count, call.value_dim, KEY_BLOCK, bad);
        }
        is_packed = true;
      }
      const int64_t skipped = range.first - start, seen = range.last - range.first;
      BY_VECTORS(panel.vectors, score_rows<V>(keys + skipped * COLUMNS, KEY_BLOCK, panel.turned, call.head_dim,
                                              scores, seen));
      if (range.is_masked || call.slopes.data != nullptr) mask_scores(call, side, panel, range, scores);
      if (has_bad) poison(range, bad - start, panel, scores);
      BY_VECTORS(panel.vectors, softmax_step<V>(call, panel, range, scores, stride));
      BY_VECTORS(panel.vectors, weighted_rows<V>(scores, panel.live, values + skipped * COLUMNS, KEY_BLOCK, seen,
                                                 call.value_dim, panel.sums, stride, panel.visited));
      panel.visited = true;
    }
  }
  for (int64_t which = 0; which < num_panels; ++which) finish_rows(call, panels[which], stride);
  return true;
}

// ---- backward ----

int64_t chunks_of(const Call& call) { return most(1, over(call.kv_len, KEY_CHUNK)); }

int64_t panels_of(const Call& call) { return over(rows_of_group(call), LANES); }

int64_t backward_tasks(const Call& call) { return call.outer * call.batch * call.kv_heads * chunks_of(call); }

int64_t backward_turns(const Call& call) {
  return chunks_of(call) == 1 ? 0 : call.outer * call.batch * call.kv_heads * panels_of(call);
}

size_t backward_bytes(const Call& call) {
  const size_t room = least(KEY_CHUNK, most(1, call.kv_len));
  const size_t head = columns_of(call.head_dim) * COLUMNS, value = columns_of(call.value_dim) * COLUMNS;
  size_t bytes = 2 * (align(head * room * sizeof(float)) + align(value * room * sizeof(float)));
  bytes += 2 * align(room * LANES * sizeof(float)) + align(room) + align(sizeof(Panel));
  bytes += 2 * align(head * LANES * sizeof(float)) + 3 * align(value * LANES * sizeof(float));
  bytes += align(head * LANES * sizeof(float)) + align(call.num_segment_pairs * LANES * sizeof(int32_t) + 1);
  return bytes;
}

// Copies the panel's rows, zeros for null ones, into [column][LANES][COLUMNS].
void pack_rows(const float* const* rows, int live, int64_t width, float* to) {
  for (int lane = 0; lane < live; ++lane) {
    const float* own = rows[lane];
    for (int64_t first = 0, column = 0; first < width; first += COLUMNS, ++column) {
      float* target = to + (column * LANES + lane) * COLUMNS;
      const int64_t part = least(COLUMNS, width - first);
      if (own != nullptr && part == COLUMNS) {
        store(target, load(own + first));
        store(target + W, load(own + first + W));
      } else {
        for (int64_t at = 0; at < COLUMNS; ++at)
          target[at] = own != nullptr && at < part ? own[first + at] : 0.0f;
      }
    }
  }
}

// Products of the output and its gradient, both turned: summed in the order of score_tile, so that a query that sees one
// key alone has a gradient of exactly zero in its score.
void turned_products(const float* outputs, const float* d_outputs, int64_t width, int lanes, float* to) {
  for (int lane = 0; lane < lanes; lane += W) {
    Vector sum = splat(0.0f);
    for (int64_t at = 0; at < width; ++at)
      sum += load(outputs + at * lanes + lane) * load(d_outputs + at * lanes + lane);
    store(to + lane, sum);
  }
}

// Weights from scores, and from products with the output's gradient those of the scores; what is dropped is dropped.
template <int VECTORS>
INLINE void weight_gradients(
    const Call& call, const KeySide& side, const Panel& panel, const Range& range, float* scores, float* products,
    float* d_slopes) {
  constexpr int lanes = VECTORS * W;
  Vector slopes[VECTORS];
  for (int vector = 0; vector < VECTORS; ++vector) slopes[vector] = splat(0.0f);
  const bool drops = call.dropout_keys.data != nullptr, has_slopes = call.slopes.data != nullptr;
  for (int64_t key = range.first; key < range.last; ++key) {
#pragma GCC unroll 3
    for (int vector = 0; vector < VECTORS; ++vector) {
      const int at = vector * W;
      float* score = scores + (key - range.first) * lanes + at;
      float* product = products + (key - range.first) * lanes + at;
      const Vector weight = exp2_of(load(score) - load(panel.maximum + at));
      Vector applied = weight, d_weight = load(product);
      if (drops) {
        const Ints keeps = kept(call, panel, at, key);
        applied = keeps ? weight * splat(call.keep_scale) : splat(0.0f);
        d_weight = keeps ? d_weight * splat(call.keep_scale) : splat(0.0f);
      }
      const Vector d_score = weight * (d_weight - load(panel.delta + at));
      store(score, applied);
      store(product, d_score);
      if (has_slopes) {
        const int32_t position = side.positions == nullptr ? static_cast<int32_t>(key) : side.positions[key];
        const Ints ahead = reinterpret_cast<Ints>(
            reinterpret_cast<Words>(splat(position)) - reinterpret_cast<Words>(load(panel.position + at)));
        slopes[vector] -= d_score * __builtin_convertvector(size_of(ahead), Vector);
      }
    }
  }
  if (has_slopes) {
    for (int vector = 0; vector < VECTORS; ++vector) store(d_slopes + vector * W, slopes[vector]);
  }
}

void unpack(const float* packed, int64_t count, int64_t width, int64_t room, float factor, float* to, int64_t stride) {
  for (int64_t first = 0, column = 0; first < width; first += COLUMNS, ++column) {
    const int64_t part = least(COLUMNS, width - first);
    for (int64_t row = 0; row < count; ++row) {
      const float* own = packed + (column * room + row) * COLUMNS;
      float* target = to + row * stride + first;
      if (part == COLUMNS) {
        store(target, load(own) * splat(factor));
        store(target + W, load(own + W) * splat(factor));
      } else {
        for (int64_t at = 0; at < part; ++at) target[at] = own[at] * factor;
      }
    }
  }
}

// Writes, or adds, the gradient of the panel's queries, and what they give to that of the slopes.
void give_rows(
    const Call& call, const Panel& panel, const float* d_queries, int64_t stride, const float* d_slopes, bool adds) {
  for (int lane = 0; lane < panel.live; ++lane) {
    float* to = call.d_query + panel.place[lane] * call.head_dim;
    const float* from = d_queries + lane * stride;
    for (int64_t at = 0; at < call.head_dim; ++at) to[at] = from[at] * call.scale + (adds ? to[at] : 0.0f);
    if (call.d_slopes == nullptr) continue;
    float* slope = call.d_slopes + panel.row_at[lane];
    *slope = d_slopes[lane] + (adds ? *slope : 0.0f);
  }
}

void clear_rows(const Call& call, const Panel& panel) {
  for (int lane = 0; lane < panel.live; ++lane) {
    std::memset(call.d_query + panel.place[lane] * call.head_dim, 0, call.head_dim * sizeof(float));
    if (call.d_slopes != nullptr) call.d_slopes[panel.row_at[lane]] = 0.0f;
  }
}

bool backward(const Call& call, int64_t task, Arena& arena, Turns* turns) {
  const int64_t chunks = chunks_of(call), num_panels = panels_of(call);
  const int64_t chunk = task % chunks, kv_head = task / chunks % call.kv_heads;
  const int64_t whole_row = task / chunks / call.kv_heads;
  const int64_t outer = whole_row / call.batch, row = whole_row % call.batch;
  const int64_t room = least(KEY_CHUNK, most(1, call.kv_len));
  const int64_t head_columns = columns_of(call.head_dim), value_columns = columns_of(call.value_dim);
  const int64_t head_stride = head_columns * COLUMNS;

  arena.reset();
  const size_t head_block = head_columns * COLUMNS * room * sizeof(float);
  const size_t value_block = value_columns * COLUMNS * room * sizeof(float);
  float* keys = static_cast<float*>(arena.take(head_block));
  float* values = static_cast<float*>(arena.take(value_block));
  float* d_keys = static_cast<float*>(arena.take(head_block));
  float* d_values = static_cast<float*>(arena.take(value_block));
  float* scores = static_cast<float*>(arena.take(room * LANES * sizeof(float)));
  float* products = static_cast<float*>(arena.take(room * LANES * sizeof(float)));
  uint8_t* bad = static_cast<uint8_t*>(arena.take(room));
  Panel* panel_room = static_cast<Panel*>(arena.take(sizeof(Panel)));
  float* turned = static_cast<float*>(arena.take(head_stride * LANES * sizeof(float)));
  float* d_turned = static_cast<float*>(arena.take(value_columns * COLUMNS * LANES * sizeof(float)));
  float* turned_outputs = static_cast<float*>(arena.take(value_columns * COLUMNS * LANES * sizeof(float)));
  float* queries = static_cast<float*>(arena.take(head_stride * LANES * sizeof(float)));
  float* d_outputs = static_cast<float*>(arena.take(value_columns * COLUMNS * LANES * sizeof(float)));
  float* d_queries = static_cast<float*>(arena.take(head_stride * LANES * sizeof(float)));
  int32_t* segments = static_cast<int32_t*>(arena.take(call.num_segment_pairs * LANES * sizeof(int32_t) + 1));
  if (segments == nullptr) return false;
  Panel& panel = *panel_room;
  panel.segments = segments;
  panel.turned = turned;

  const KeySide side = key_side(call, outer, row);
  const int64_t start = chunk * KEY_CHUNK;
  const int64_t end = least(start + KEY_CHUNK, call.kv_len);  // of this task's rows of the gradients
  const int64_t count = most(0, least(end, side.length) - start);
  const int64_t key_stride = call.kv_heads * call.head_dim, value_stride = call.kv_heads * call.value_dim;
  const int64_t key_at = ((whole_row * call.kv_len + start) * call.kv_heads + kv_head) * call.head_dim;
  const int64_t value_at = ((whole_row * call.kv_len + start) * call.kv_heads + kv_head) * call.value_dim;
  if (count > 0) {
    bool finite = pack(call.key + key_at, key_stride, count, call.head_dim, room, keys);
    finite &= pack(call.value + value_at, value_stride, count, call.value_dim, room, values);
    if (!finite) {  // who sees these has no gradient
      clean(keys, count, call.head_dim, room, bad);
      clean(values, count, call.value_dim, room, bad);
    }
  }
  std::memset(d_keys, 0, head_block);
  std::memset(d_values, 0, value_block);

  for (int64_t step = 0; step < num_panels; ++step) {
    // Under a causal mask all chunks are seen by the last queries: from there on tasks work side by side.
    const int64_t which = call.has_right ? num_panels - 1 - step : step;
    const int64_t first = which * LANES;
    fill_panel(call, outer, row, kv_head, first, static_cast<int>(least(LANES, rows_of_group(call) - first)), panel);
    const Range range = visible_range(call, side, panel, start, start + count);
    if (range.first >= range.last) {
      if (chunks == 1) clear_rows(call, panel);
      continue;
    }
    const float* rows[LANES];
    const float* d_rows[LANES];
    const float* outputs[LANES];
    for (int lane = 0; lane < panel.lanes(); ++lane) {
      const float logsumexp = call.logsumexp[panel.row_at[lane]];
      const bool lives = lane < panel.live && is_finite(logsumexp);
      const float* d_output = call.d_output + panel.place[lane] * call.value_dim;
      rows[lane] = lives ? panel.rows[lane] : nullptr;
      d_rows[lane] = lives ? d_output : nullptr;
      // A row that is empty, poisoned or not there: every weight is zero.
      panel.maximum[lane] = lives ? logsumexp * LOG2_E : INFINITE;
      outputs[lane] = lives ? call.output + panel.place[lane] * call.value_dim : nullptr;
    }
    turn_rows(rows, panel.lanes(), call.head_dim, call.scale * LOG2_E, turned);
    turn_rows(d_rows, panel.lanes(), call.value_dim, 1.0f, d_turned);
    turn_rows(outputs, panel.lanes(), call.value_dim, 1.0f, turned_outputs);
    turned_products(turned_outputs, d_turned, call.value_dim, panel.lanes(), panel.delta);
    pack_rows(rows, panel.live, call.head_dim, queries);
    pack_rows(d_rows, panel.live, call.value_dim, d_outputs);
    const int64_t skipped = (range.first - start) * COLUMNS, seen = range.last - range.first;
    alignas(64) float d_slopes[LANES];
    BY_VECTORS(panel.vectors, score_rows<V>(keys + skipped, room, turned, call.head_dim, scores, seen));
    if (range.is_masked || call.slopes.data != nullptr) mask_scores(call, side, panel, range, scores);
    BY_VECTORS(panel.vectors, score_rows<V>(values + skipped, room, d_turned, call.value_dim, products, seen));
    BY_VECTORS(panel.vectors, weight_gradients<V>(call, side, panel, range, scores, products, d_slopes));
    summed_rows(scores, panel.lanes(), panel.live, d_outputs, seen, call.value_dim, d_values + skipped, room);
    summed_rows(products, panel.lanes(), panel.live, queries, seen, call.head_dim, d_keys + skipped, room);
    BY_VECTORS(panel.vectors, weighted_rows<V>(products, panel.live, keys + skipped, room, seen, call.head_dim,
                                               d_queries, head_stride, false));
    if (chunks == 1) {
      give_rows(call, panel, d_queries, head_stride, d_slopes, false);
      continue;
    }
    int32_t turn = 0;  // chunks before this one that the panel sees, too
    for (int64_t before = 0; before < chunk; ++before) {
      const Range other = visible_range(call, side, panel, before * KEY_CHUNK, (before + 1) * KEY_CHUNK);
      turn += other.first < other.last;
    }
    const int64_t counter = (whole_row * call.kv_heads + kv_head) * num_panels + which;
    turns->wait(counter, turn);
    give_rows(call, panel, d_queries, head_stride, d_slopes, true);
    turns->pass(counter);
  }

  unpack(d_keys, count, call.head_dim, room, call.scale, call.d_key + key_at, key_stride);
  unpack(d_values, count, call.value_dim, room, 1.0f, call.d_value + value_at, value_stride);
  for (int64_t key = count; key < end - start; ++key) {
    std::memset(call.d_key + key_at + key * key_stride, 0, call.head_dim * sizeof(float));
    std::memset(call.d_value + value_at + key * value_stride, 0, call.value_dim * sizeof(float));
  }
  return true;
}

}  // namespace

const Kernels* VARIANT(attention)() {
  static const Kernels kernels = {
      forward_tasks, forward_bytes, forward, backward_tasks, backward_bytes, backward_turns, backward};
  return &kernels;
}

}  // namespace transformer_jax
