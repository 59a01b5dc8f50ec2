// Work in pieces for however many threads there are.

#ifndef JAXTASK_NATIVE_THREADS_H_
#define JAXTASK_NATIVE_THREADS_H_

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <cstdlib>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <new>
#include <thread>

namespace jaxtask {

// Memory of this thread's own, aligned to 64 bytes and kept for the next piece.
inline void* thread_scratch(int64_t bytes) {
  struct Scratch {
    void* memory = nullptr;
    int64_t size = 0;
    ~Scratch() { std::free(memory); }
  };
  static thread_local Scratch scratch;
  if (bytes > scratch.size) {
    std::free(scratch.memory);
    scratch.size = (bytes + 63) / 64 * 64;
    scratch.memory = std::aligned_alloc(64, scratch.size);
    if (!scratch.memory) throw std::bad_alloc();
  }
  return scratch.memory;
}

// Pieces 0 … count − 1 that any number of threads take from.
class Pieces {
 public:
  explicit Pieces(int64_t count) : count_(count) {}

  template <typename Work>
  void take(const Work& work) {
    for (int64_t piece = next_++; piece < count_; piece = next_++) {
      work(piece);
      if (++done_ == count_) {
        const std::lock_guard<std::mutex> lock(mutex_);
        all_done_.notify_all();
      }
    }
  }

  void wait() {
    std::unique_lock<std::mutex> lock(mutex_);
    all_done_.wait(lock, [this] { return done_ == count_; });
  }

 private:
  const int64_t count_;
  std::atomic<int64_t> next_{0}, done_{0};
  std::mutex mutex_;
  std::condition_variable all_done_;
};

// work(piece) for all pieces, on this thread and on up to `helpers` that `schedule` finds.
//
// It waits only for pieces that someone is working on, never for a thread to become free: a helper
// that starts late finds no piece, and touches nothing but `pieces`. So it can neither block a pool
// that it is called from, nor does it need the threads of a pool that a fork has left behind.
template <typename Schedule, typename Work>
void run_pieces(int64_t count, int64_t helpers, const Schedule& schedule, const Work& work) {
  auto pieces = std::make_shared<Pieces>(count);
  const Work* shared_work = &work;
  for (int64_t i = 0; i < std::min(helpers, count - 1); ++i) {
    schedule([pieces, shared_work] { pieces->take(*shared_work); });
  }
  pieces->take(work);
  pieces->wait();
}

// Threads of our own, for calls that come from Python. They live as long as the process.
class Pool {
 public:
  static Pool& get() {
    static Pool* pool = new Pool;
    return *pool;
  }

  template <typename Work>
  void run(int64_t count, int64_t threads, const Work& work) {
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      for (; started_ < threads - 1; ++started_) std::thread([this] { serve(); }).detach();
    }
    run_pieces(count, threads - 1, [this](auto job) { add(std::move(job)); }, work);
  }

 private:
  void add(std::function<void()> job) {
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      jobs_.push_back(std::move(job));
    }
    wake_.notify_one();
  }

  void serve() {
    while (true) {
      std::unique_lock<std::mutex> lock(mutex_);
      wake_.wait(lock, [this] { return !jobs_.empty(); });
      const std::function<void()> job = std::move(jobs_.front());
      jobs_.pop_front();
      lock.unlock();
      job();
    }
  }

  std::mutex mutex_;
  std::condition_variable wake_;
  std::deque<std::function<void()>> jobs_;
  int64_t started_ = 0;
};

}  // namespace jaxtask

#endif  // JAXTASK_NATIVE_THREADS_H_
