"""What any other way of offloading would take, from one run folder: a simulated schedule of measured costs."""
