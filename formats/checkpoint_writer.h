// Writes the safetensors files of a checkpoint from many threads, in any order, without holding tensors in
// memory.
//
// Every tensor has its place before the first byte is written, but for one difficulty: the last piece of a
// nested 4-bit weight is a JSON text that holds the decimal digits of a mean, so its length is known only
// when that weight has been quantized. Such "open" tensors enter the layout with a foreseen length:
//
//   header | ... F32 ... | A.weight | A.quant_state | B.weight | B.quant_state | C.weight | ...
//                                     170 + d(A)     ^           170 + d(B)     ^
//                                                    moves by d(A)              moves by d(A) + d(B)
//
// Where a tensor goes is settled once all open tensors before it in its file are. write() waits for that, so
// whoever handles weights in write_order() never waits for something that nobody is working on. When all
// lengths are known, the true layout is computed afresh. Nearly always it has the foreseen header length and
// shards, and everything lies where it belongs; a file for which that is not so (an offset in the header
// gained a digit, a shard just got too large) is put together again from the pieces written.
//
// A file all of whose bytes are written and on the disk is noted in the folder's journal with the lengths of
// its open tensors. A writer of the same work in a folder that holds such files keeps them: what is written
// to them again is dropped, being the same.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <memory>
#include <mutex>
#include <set>
#include <span>
#include <string>
#include <vector>

#include "formats/atomic_folder.h"
#include "formats/shard_layout.h"

namespace qtool {

struct PlannedTensor {
  TensorSpec spec;
  bool open_length = false;  // spec.shape is {foreseen bytes}, to be corrected by set_length()
};

class CheckpointWriter {
 public:
  // The files take shape inside `folder`, which must outlive the writer. `work` names what is written: of the
  // folder's leftovers those are kept that were noted under the same name, in one line. Errors: those of
  // shard_layout(), kIo.
  CheckpointWriter(AtomicFolder& folder, const std::vector<PlannedTensor>& tensors,
                   std::int64_t max_shard_bytes, const std::string& work = "");

  const ShardLayout& foreseen() const { return foreseen_; }

  // Whether an interrupted writer has finished the tensor's file; how many such files there are, and their
  // bytes.
  bool kept(std::size_t tensor) const { return kept_[foreseen_.places[tensor].shard]; }
  std::size_t kept_files() const;
  std::int64_t kept_bytes() const;

  // The length of open tensor `tensor` is `bytes`. Once per open tensor. Thread-safe.
  void set_length(std::size_t tensor, std::int64_t bytes);

  // Writes part of tensor `tensor`: `bytes` at `offset` within it. Waits until its place is settled.
  // Thread-safe. Errors: kIo; kInterrupted when cancel() was called meanwhile.
  void write(std::size_t tensor, std::int64_t offset, std::span<const std::byte> bytes);

  // Ends all waiting, present and future: a thread has failed and the folder will not be committed.
  void cancel();

  struct Result {
    ShardLayout layout;             // the true one
    std::size_t rebuilt_files = 0;  // those that had to be put together again
  };
  // To be called when everything is written: headers, names, index; all on the disk. Errors: kIo,
  // kInterrupted.
  Result finish(std::int64_t total_parameters);

 private:
  // What is known of the open tensors of one file, in file order.
  struct OpenTensors {
    std::vector<std::size_t> tensors;
    std::vector<std::int64_t> shift;  // shift[k]: by how much the first k open tensors move what follows
    std::size_t settled = 0;          // shift[0..settled] are known
  };

  std::set<std::string> adopt(const std::vector<std::string>& notes);
  bool adopt(std::size_t shard, const std::vector<std::int64_t>& lengths);
  void settle(std::size_t tensor, std::int64_t bytes);
  void end_file(std::size_t shard);
  std::int64_t place_of(std::size_t tensor);
  bool in_place(const ShardLayout& layout, std::size_t shard,
                const std::vector<std::int64_t>& written_at) const;
  void rebuild(const ShardLayout& layout, std::size_t shard, const std::vector<std::int64_t>& written_at,
               OutputFile& out) const;

  AtomicFolder& folder_;
  std::int64_t max_shard_bytes_;
  std::vector<PlannedTensor> tensors_;
  ShardLayout foreseen_;
  std::vector<std::unique_ptr<OutputFile>> files_;  // one a foreseen shard
  std::vector<std::size_t> opens_before_;           // of tensor i: open tensors before it in its file
  std::vector<bool> kept_;                          // of shard i

  std::mutex mutex_;  // guards what follows
  std::condition_variable settled_;
  std::vector<OpenTensors> open_;            // one a foreseen shard
  std::vector<std::int64_t> length_change_;  // of tensor i, once known
  std::vector<bool> length_known_;
  std::vector<std::int64_t>
      missing_;  // of shard i: bytes not written yet, with foreseen lengths where unknown
  bool cancelled_ = false;
};

// An order in which tensors' owners may be handled so that no write waits for a later one: by the shard and
// position of the last piece of each. `pieces[i]` are the writer's tensors that owner i writes; owners
// without any come last.
std::vector<std::size_t> write_order(const ShardLayout& layout,
                                     const std::vector<std::vector<std::size_t>>& pieces);

}  // namespace qtool
