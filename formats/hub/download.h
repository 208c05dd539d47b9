// One file of the Hub into the cache: resumed where a try before it was cut off, checked against its digest,
// and only then given its name.
#pragma once

#include "formats/hub/cache.h"
#include "formats/hub/http.h"
#include "formats/hub/listing.h"

namespace qtool {

// A file at an address.
struct RemoteBlob {
  HubFile file;
  std::string url;
  std::string what;  // how messages name it: "org/name: model.safetensors"
};

// Afterwards the blob is there. Another process that writes it is waited for. What is interrupted leaves
// ETAG.incomplete behind, from whose end the next try goes on. Errors: kNetwork, kNotFound, kIo,
// kInterrupted; kVerification when the bytes are not those that the listing promises, twice.
void download_blob(HttpSession& session, const HubContext& context, const HubCache& cache,
                   const RemoteBlob& blob);

}  // namespace qtool
