"""Users and groups of containers: who we are, which ids we may hand out, and the user
namespace in which they are real."""
