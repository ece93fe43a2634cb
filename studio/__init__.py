"""The studio: a page on this machine on which a person puts right what the networks got wrong in a scene."""
