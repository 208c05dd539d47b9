// Addresses: taken apart and put together by libcurl's own parser, so that what is checked is what is
// connected to.
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace qtool {

// "https://host:443": scheme, host and port, lower case, the port always written. Empty for what is no http
// or https address.
std::string origin_of(const std::string& url);

// Where `location` (absolute or relative) leads from `url`. Nothing if that is no http or https address, or
// if it leads from https to http.
std::optional<std::string> redirected(const std::string& url, const std::string& location);

// Whether requests may be built by appending "/api/..." : an http or https address with a host and without
// user name, query or fragment.
bool is_plain_endpoint(const std::string& url);

// Everything but letters, digits and "-_.~" as %XX; `keep_slashes` leaves '/' as it is.
std::string url_quoted(std::string_view text, bool keep_slashes);

// For messages: without user name, query and fragment, which may hold secrets (signed addresses).
std::string shown_url(const std::string& url);

}  // namespace qtool
