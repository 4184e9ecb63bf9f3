// Runs the kernels on random calls, held to sums in double precision, for a build under a sanitizer.
//
// Arrays have exactly their size, so that a read beyond an end is found. Arguments: how many calls, and a seed.

#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <memory>
#include <random>
#include <thread>
#include <utility>
#include <vector>

#include "attention_tasks.h"
#include "recurrence.h"
#include "variants.h"

namespace tj = transformer_jax;

std::mt19937 generator;

int64_t whole(int64_t low, int64_t high) { return std::uniform_int_distribution<int64_t>(low, high)(generator); }
bool coin() { return whole(0, 1) == 1; }

std::vector<float> normal(int64_t count) {
  std::normal_distribution<float> draw;
  std::vector<float> values(count);
  for (float& value : values) value = draw(generator);
  return values;
}

std::vector<int32_t> numbers(int64_t count, int64_t low, int64_t high) {
  std::vector<int32_t> values(count);
  for (int32_t& value : values) value = static_cast<int32_t>(whole(low, high));
  return values;
}

template <typename T>
tj::Rows<T> rows_of(const std::vector<T>& values, int64_t rows) {
  tj::Rows<T> found;
  found.data = values.data();
  found.rows = rows;
  found.width = static_cast<int64_t>(values.size()) / rows;
  return found;
}

struct Threads {
  std::vector<std::thread> running;
  tj::Threads handle{3, [this](std::function<void()> task) { running.emplace_back(std::move(task)); }};
  ~Threads() {
    for (std::thread& one : running) one.join();
  }
};

bool sees(const tj::Call& call, int64_t row, int64_t head, int64_t i, int64_t j, int64_t* distance) {
  const int32_t* lengths = call.lengths.of(0, row);
  const int32_t* query_positions = call.query_positions.of(0, row);
  const int32_t* key_positions = call.key_positions.of(0, row);
  const int64_t ahead = (key_positions ? key_positions[j] : j) - (query_positions ? query_positions[i] : i);
  *distance = std::llabs(ahead);
  if (lengths && j >= *lengths) return false;
  if (call.has_right && ahead > call.right) return false;
  if (call.has_left && ahead < -int64_t(call.left)) return false;
  if (call.valid.data && !call.valid.of(0, row)[j]) return false;
  for (int64_t pair = 0; pair < call.num_segment_pairs; ++pair)
    if (call.query_segments.of(0, row)[pair * call.q_len + i] != call.key_segments.of(0, row)[pair * call.kv_len + j])
      return false;
  if (call.dense.data) {
    const int64_t at = ((call.dense_heads == 1 ? 0 : head) * call.q_len + i) * call.kv_len + j;
    if (!call.dense.of(0, row)[at]) return false;
  }
  return true;
}

double worst = 0.0;

void compare(const char* name, const float* got, const std::vector<double>& wanted) {
  for (size_t at = 0; at < wanted.size(); ++at) {
    const double error = std::fabs(got[at] - wanted[at]) / (1.0 + std::fabs(wanted[at]));
    if (error > worst) worst = error;
    if (!(error < 2e-4)) {
      std::printf("%s[%zu] is %g, wanted %g\n", name, at, got[at], wanted[at]);
      std::exit(1);
    }
  }
}

// An LSTM's steps, in double precision, against the kernels' on rows in two parts.
void one_run() {
  tj::Run run = {};
  run.time = whole(1, 6);
  run.batch = whole(1, 20);
  run.hidden = whole(1, 40);
  run.reverse = coin();
  const int64_t time = run.time, batch = run.batch, hidden = run.hidden, steps = time * batch;
  const auto weight = normal(hidden * 4 * hidden), projected = normal(steps * 4 * hidden);
  const auto state = normal(batch * hidden), memory = normal(batch * hidden);
  const auto d_outputs = normal(steps * hidden), d_state = normal(batch * hidden), d_memory = normal(batch * hidden);
  std::vector<uint8_t> valid(steps), resets(steps);
  for (uint8_t& one : valid) one = whole(0, 3) != 0;
  for (uint8_t& one : resets) one = whole(0, 3) == 0;
  run.weight = weight.data();
  run.valid = coin() ? valid.data() : nullptr;
  run.resets = coin() ? resets.data() : nullptr;
  run.projected = projected.data();
  run.state = state.data();
  run.memory = memory.data();
  std::vector<float> outputs(steps * hidden), last_state(batch * hidden), last_memory(batch * hidden);
  std::vector<float> memories(steps * hidden), gates(steps * 4 * hidden), d_gates(steps * 4 * hidden);
  std::vector<float> first_state(batch * hidden), first_memory(batch * hidden), before(steps * hidden);
  run.outputs = outputs.data();
  run.last_state = last_state.data();
  run.last_memory = last_memory.data();
  run.memories = memories.data();
  run.gates = gates.data();
  const tj::RecurrenceKernels* kernels = tj::variant_here()->recurrence;
  std::vector<float> packed(kernels->packed_bytes(run) / sizeof(float));
  const int64_t half = batch / 2;
  const auto both = [&](void (*kernel)(const tj::Run&, const float*, int64_t, int64_t, char*)) {
    std::vector<std::thread> running;
    for (const auto& part : {std::make_pair(int64_t(0), half), std::make_pair(half, batch)}) {
      if (part.first == part.second) continue;
      running.emplace_back([&, part] {
        std::vector<char> room(kernels->row_bytes(run, part.second - part.first));
        kernel(run, packed.data(), part.first, part.second, room.data());
      });
    }
    for (std::thread& one : running) one.join();
  };
  kernels->pack_forward(run, packed.data());
  both(kernels->forward);

  // Forward in double precision, and what its derivative needs.
  std::vector<double> h(state.begin(), state.end()), c(memory.begin(), memory.end());
  std::vector<double> wanted(steps * hidden, 0.0), all_gates(steps * 4 * hidden, 0.0), after(steps * hidden, 0.0);
  std::vector<double> started_h(steps * hidden, 0.0), started_c(steps * hidden, 0.0);
  const auto step_of = [&](int64_t count) { return run.reverse ? time - 1 - count : count; };
  for (int64_t count = 0; count < time; ++count)
    for (int64_t row = 0; row < batch; ++row) {
      const int64_t place = step_of(count) * batch + row;
      if (run.valid && !valid[place]) continue;
      for (int64_t unit = 0; unit < hidden; ++unit) {
        const bool clears = run.resets && resets[place];
        started_h[place * hidden + unit] = clears ? 0.0 : h[row * hidden + unit];
        started_c[place * hidden + unit] = clears ? 0.0 : c[row * hidden + unit];
      }
      for (int64_t gate = 0; gate < 4 * hidden; ++gate) {
        double sum = projected[place * 4 * hidden + gate];
        for (int64_t unit = 0; unit < hidden; ++unit)
          sum += started_h[place * hidden + unit] * weight[unit * 4 * hidden + gate];
        all_gates[place * 4 * hidden + gate] = std::tanh(sum);
      }
      for (int64_t unit = 0; unit < hidden; ++unit) {
        const double* own = &all_gates[place * 4 * hidden + unit];
        const double held = (own[hidden] + 1) * started_c[place * hidden + unit];
        const double made = 0.5 * (held + (own[0] + 1) * own[2 * hidden]);
        after[place * hidden + unit] = c[row * hidden + unit] = made;
        wanted[place * hidden + unit] = h[row * hidden + unit] = 0.5 * (own[3 * hidden] + 1) * std::tanh(made);
      }
    }
  compare("outputs", outputs.data(), wanted);
  compare("last state", last_state.data(), h);
  compare("last memory", last_memory.data(), c);

  run.d_outputs = d_outputs.data();
  run.d_last_state = d_state.data();
  run.d_last_memory = d_memory.data();
  for (size_t at = 0; at < before.size(); ++at) before[at] = static_cast<float>(started_c[at]);
  run.previous_memories = before.data();
  run.kept_memories = memories.data();
  run.kept_gates = gates.data();
  run.d_gates = d_gates.data();
  run.d_state = first_state.data();
  run.d_memory = first_memory.data();
  kernels->pack_backward(run, packed.data());
  both(kernels->backward);
  std::vector<double> dh(d_state.begin(), d_state.end()), dc(d_memory.begin(), d_memory.end());
  std::vector<double> wanted_gates(steps * 4 * hidden, 0.0);
  for (int64_t count = time - 1; count >= 0; --count)
    for (int64_t row = 0; row < batch; ++row) {
      const int64_t place = step_of(count) * batch + row;
      if (run.valid && !valid[place]) continue;
      for (int64_t unit = 0; unit < hidden; ++unit) {
        const double* own = &all_gates[place * 4 * hidden + unit];
        const double i = own[0], f = own[hidden], g = own[2 * hidden], o = own[3 * hidden];
        const double squashed = std::tanh(after[place * hidden + unit]);
        const double arriving = dh[row * hidden + unit] + d_outputs[place * hidden + unit];
        const double made = dc[row * hidden + unit] + 0.5 * arriving * (o + 1) * (1 - squashed * squashed);
        double* to = &wanted_gates[place * 4 * hidden + unit];
        to[0] = 0.5 * made * g * (1 - i * i);
        to[hidden] = 0.5 * made * started_c[place * hidden + unit] * (1 - f * f);
        to[2 * hidden] = 0.5 * made * (i + 1) * (1 - g * g);
        to[3 * hidden] = 0.5 * arriving * squashed * (1 - o * o);
        dc[row * hidden + unit] = 0.5 * made * (f + 1);
      }
      const bool clears = run.resets && resets[place];
      for (int64_t unit = 0; unit < hidden; ++unit) {
        double sum = 0.0;
        for (int64_t gate = 0; gate < 4 * hidden; ++gate)
          sum += wanted_gates[place * 4 * hidden + gate] * weight[unit * 4 * hidden + gate];
        dh[row * hidden + unit] = clears ? 0.0 : sum;
        if (clears) dc[row * hidden + unit] = 0.0;
      }
    }
  compare("d_gates", d_gates.data(), wanted_gates);
  compare("d_state", first_state.data(), dh);
  compare("d_memory", first_memory.data(), dc);
}

void one_call() {
  tj::Call call;
  std::memset(static_cast<void*>(&call), 0, sizeof(call));
  call.outer = 1;
  call.batch = whole(1, 3);
  call.q_len = whole(1, 70);
  call.kv_len = whole(1, coin() ? 60 : 600);
  call.kv_heads = whole(1, 2);
  call.heads = call.kv_heads * whole(1, 3);
  call.head_dim = whole(1, 40);
  call.value_dim = whole(1, 40);
  call.scale = 0.3f;
  call.keep_scale = 1.0f;
  call.has_right = coin();
  call.right = static_cast<int32_t>(whole(0, 5));
  call.has_left = whole(0, 3) == 0;
  call.left = static_cast<int32_t>(whole(0, 90));
  const int64_t batch = call.batch;
  const auto query = normal(batch * call.q_len * call.heads * call.head_dim);
  const auto key = normal(batch * call.kv_len * call.kv_heads * call.head_dim);
  const auto value = normal(batch * call.kv_len * call.kv_heads * call.value_dim);
  const auto d_output = normal(batch * call.q_len * call.heads * call.value_dim);
  call.query = query.data();
  call.key = key.data();
  call.value = value.data();
  call.d_output = d_output.data();
  const int64_t some = coin() ? batch : 1;  // rows of the parts
  const auto lengths = numbers(batch, -2, call.kv_len + 2);
  const auto query_positions = numbers(some * call.q_len, 0, 200);
  const auto key_positions = numbers(some * call.kv_len, 0, 200);
  const auto query_segments = numbers(some * 2 * call.q_len, 0, 2);
  const auto key_segments = numbers(some * 2 * call.kv_len, 0, 2);
  std::vector<uint8_t> valid(some * call.kv_len), dense;
  for (uint8_t& one : valid) one = whole(0, 3) != 0;
  call.dense_heads = coin() ? call.heads : 1;
  dense.resize(some * call.dense_heads * call.q_len * call.kv_len);
  for (uint8_t& one : dense) one = coin();
  auto slopes = normal(call.heads);
  for (float& slope : slopes) slope *= 0.02f;  // scores of hundreds would leave few digits
  if (coin()) call.lengths = rows_of(lengths, batch);
  if (coin()) {
    call.query_positions = rows_of(query_positions, some);
    call.key_positions = rows_of(key_positions, some);
  }
  if (whole(0, 2) == 0) {
    call.num_segment_pairs = 2;
    call.query_segments = rows_of(query_segments, some);
    call.key_segments = rows_of(key_segments, some);
  }
  if (whole(0, 2) == 0) call.valid = rows_of(valid, some);
  if (whole(0, 2) == 0) call.dense = rows_of(dense, some);
  if (whole(0, 2) == 0) call.slopes = rows_of(slopes, 1);

  std::vector<float> output(d_output.size()), logsumexp(batch * call.heads * call.q_len);
  std::vector<float> d_query(query.size()), d_key(key.size()), d_value(value.size()), d_slopes(logsumexp.size());
  call.output = output.data();
  call.logsumexp = logsumexp.data();
  call.d_query = d_query.data();
  call.d_key = d_key.data();
  call.d_value = d_value.data();
  call.d_slopes = call.slopes.data ? d_slopes.data() : nullptr;
  {
    Threads threads;
    if (!tj::run_forward(call, threads.handle) || !tj::run_backward(call, threads.handle)) std::exit(1);
  }

  std::vector<double> wanted(output.size(), 0.0), wanted_query(query.size(), 0.0), wanted_key(key.size(), 0.0);
  std::vector<double> wanted_value(value.size(), 0.0), wanted_slopes(logsumexp.size(), 0.0);
  const int64_t group = call.heads / call.kv_heads;
  for (int64_t row = 0; row < batch; ++row)
    for (int64_t head = 0; head < call.heads; ++head)
      for (int64_t i = 0; i < call.q_len; ++i) {
        const int64_t place = (row * call.q_len + i) * call.heads + head;
        const int64_t line = (row * call.heads + head) * call.q_len + i;
        std::vector<double> weights(call.kv_len, 0.0), distances(call.kv_len, 0.0);
        double maximum = -INFINITY, total = 0.0;
        for (int64_t pass = 0; pass < 2; ++pass)
          for (int64_t j = 0; j < call.kv_len; ++j) {
            int64_t distance;
            if (!sees(call, row, head, i, j, &distance)) continue;
            distances[j] = static_cast<double>(distance);
            const int64_t at = ((row * call.kv_len + j) * call.kv_heads + head / group);
            double score = 0.0;
            for (int64_t d = 0; d < call.head_dim; ++d)
              score += double(query[place * call.head_dim + d]) * key[at * call.head_dim + d];
            score = score * call.scale - (call.slopes.data ? slopes[head] * distances[j] : 0.0);
            if (pass == 0) {
              maximum = std::fmax(maximum, score);
            } else {
              weights[j] = std::exp(score - maximum);
              total += weights[j];
            }
          }
        if (total == 0.0) continue;
        double delta = 0.0;
        std::vector<double> d_weights(call.kv_len, 0.0);
        for (int64_t j = 0; j < call.kv_len; ++j) {
          weights[j] /= total;
          const int64_t at = ((row * call.kv_len + j) * call.kv_heads + head / group) * call.value_dim;
          for (int64_t d = 0; d < call.value_dim; ++d) {
            const double gradient = d_output[place * call.value_dim + d];
            wanted[place * call.value_dim + d] += weights[j] * value[at + d];
            wanted_value[at + d] += weights[j] * gradient;
            d_weights[j] += gradient * value[at + d];
          }
          delta += weights[j] * d_weights[j];
        }
        for (int64_t j = 0; j < call.kv_len; ++j) {
          const double d_score = weights[j] * (d_weights[j] - delta);
          const int64_t at = ((row * call.kv_len + j) * call.kv_heads + head / group) * call.head_dim;
          for (int64_t d = 0; d < call.head_dim; ++d) {
            wanted_query[place * call.head_dim + d] += d_score * call.scale * key[at + d];
            wanted_key[at + d] += d_score * call.scale * query[place * call.head_dim + d];
          }
          wanted_slopes[line] -= d_score * distances[j];
        }
      }
  compare("output", output.data(), wanted);
  compare("d_query", d_query.data(), wanted_query);
  compare("d_key", d_key.data(), wanted_key);
  compare("d_value", d_value.data(), wanted_value);
  if (call.slopes.data) compare("d_slopes", d_slopes.data(), wanted_slopes);
}

int main(int, char** words) {
  const int calls = std::atoi(words[1]);
  generator.seed(std::atoi(words[2]));
  int variants = 0;
  for (const char* name : {"avx512", "avx2", "plain"}) {
    if (!tj::use_variant(name)) continue;
    ++variants;
    for (int call = 0; call < calls; ++call) {
      one_call();
      one_run();
    }
  }
  std::printf("%d calls of each kernel by %d variants, worst error %.1e\n", calls * variants, variants, worst);
}
