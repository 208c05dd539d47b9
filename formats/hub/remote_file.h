// A file on the Hub of which only pieces are read, by range requests: headers before anything is downloaded.
#pragma once

#include <map>
#include <memory>
#include <mutex>
#include <vector>

#include "formats/file.h"
#include "formats/hub/connections.h"
#include "formats/hub/download.h"

namespace qtool {

class RemoteFile : public ByteSource {
 public:
  RemoteFile(std::shared_ptr<HubConnections> connections, RemoteBlob blob)
      : connections_(std::move(connections)), blob_(std::move(blob)) {}

  std::int64_t size() const override { return blob_.file.size; }
  // Errors: kNetwork, kNotFound, kInterrupted.
  void read_at(std::int64_t offset, std::span<std::byte> out) const override;

 private:
  std::vector<std::byte> fetch(std::int64_t begin, std::int64_t end) const;

  std::shared_ptr<HubConnections> connections_;
  RemoteBlob blob_;
  mutable std::mutex mutex_;
  mutable std::map<std::int64_t, std::vector<std::byte>> kept_;  // small pieces, by offset
};

}  // namespace qtool
