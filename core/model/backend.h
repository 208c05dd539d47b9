// placeholder, replaced by the forward pass work
#pragma once
namespace qtool { class Backend { public: virtual ~Backend() = default; }; }
