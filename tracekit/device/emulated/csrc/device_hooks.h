// Tells torch about the device; called once, when the extension is loaded.
#pragma once

namespace emulated {

void install_hooks();

}  // namespace emulated
