"""What holds for every test."""

from hypothesis import HealthCheck, settings

# No property is judged by the clock: machines that test this stall for a second now and then.
settings.register_profile("clickmill", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("clickmill")
