//! `pulsehook hook render`: a dry run on the router's own code path.
